"""What Lightning costs a step: the same module on the same batches under its Trainer, and in a bare loop.

    python benchmarks/lightning_overhead.py --rounds 11

The loop does what training cannot do without: the loader, forward, backward, clipping, fused AdamW, the schedule. Both
run the module's own forward and loss, so that the difference is Lightning's (and that of what our module does around a
step: the exact loss over micro-batches, logging).
"""

from functools import partial
from typing import Any

import torch
from classification_step import Job, by_lit_ft, load, start_folder
from flops import PEAK, ModelCost, gemm_peak, utilisation, with_utilisation
from harness import OURS, Comparison, Measured, Report, alternate, compare, parser, work_folder
from lightning.pytorch import seed_everything
from training import Meter, compare_losses
from workload import SHAPES, describe_lengths, label_names, load_rows, workload

from lit_ft import TextClassificationModule
from lit_ft.optim.schedules import schedule

BARE = "bare loop"


def by_loop(job: Job) -> tuple[Measured, list[Any]]:
    """Trains an epoch with lit_ft's module and loader, without Lightning's Trainer."""
    device = "cuda" if job.options.accelerator == "gpu" else "cpu"
    seed_everything(job.options.seed, verbose=False)
    data = job.data()
    data.setup("fit")
    loader = data.train_dataloader()
    module = TextClassificationModule(model_name_or_path=job.model)
    model = module.build().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=module.hparams["learning_rate"], weight_decay=0.0, fused=True)
    scheduler = schedule("linear", optimizer, 0, len(loader), None)
    meter = Meter(cost=job.cost)
    meter.start()
    for given in loader:
        batch = {name: value.to(device, non_blocking=True) for name, value in given.items()}
        meter.count(batch)
        total, count = module.loss(module.outputs(batch), batch)
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        meter.loss(loss)
        meter.stepped()
    meter.stop()
    return meter.measured(), meter.losses


def share(measured: dict[str, list[Measured]]) -> Comparison:
    """Returns what part of a step the bare loop does without, round by round."""
    pairs = zip(measured[OURS], measured[BARE], strict=True)
    return Comparison(
        "Lightning's share of a step",
        "%",
        "lower",
        {OURS: [100 * (1 - two["step"] / one["step"]) for one, two in pairs]},
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = parser(__doc__, rows=None, rounds=11)
    made.add_argument("--workload", choices=SHAPES, default="short", help="lengths of the rows (default short)")
    made.add_argument("--steps", type=int, default=20, help="steps of a round (default 20)")
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    made.set_defaults(precision="32-true")
    options = made.parse_args(arguments)
    report = Report("lightning_overhead", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.steps * options.batch_size, SHAPES[options.workload])
        labels = label_names(load_rows(work, folder / "theirs"), work)
        models = [start_folder(work, folder / str(on), labels, options.seed, on) for on in (False, True)]
        off, on = (Job(options, work, model, folder, ModelCost.of(load(model))) for model in models)
        data = on.data()
        data.prepare_data()
        data.setup("fit")
        report.notes.append(describe_lengths(data.features["train"][""].store.lengths()))
        (_, mine), (_, other) = by_lit_ft(off), by_loop(off)
        steps = len(data.train_dataloader())
        report.checks.append(compare_losses(mine, other, steps, 1e-5, "dropout off, same batches"))
        sides = {OURS: by_lit_ft, BARE: by_loop}
        contestants: dict[str, Any] = {name: partial(_measured, side, on) for name, side in sides.items()}
        contestants[PEAK] = gemm_peak("cuda" if options.accelerator == "gpu" else "cpu")
        measured = alternate(contestants, options.rounds, options.warmup)
    report.notes += [
        with_utilisation(measured),
        f"float32, dropout on; a round is {steps} steps from the same weights, from the first batch to the last step",
        "Lightning's Trainer without logger, progress bar and checkpoints",
    ]
    report.comparisons = [
        compare(measured, "step", f"a step of {options.batch_size} rows", "s", "lower"),
        share(measured),
        utilisation(measured),
    ]
    return report.write()


def _measured(side: Any, job: Job) -> Measured:
    return side(job)[0]  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
