"""Which cells of a row are the source and its targets: two columns, a nested column, several references."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from string import Formatter
from typing import Any

from lit_ft.data.columns import Names, as_list, check_columns
from lit_ft.data.labels import class_names
from lit_ft.errors import UserError, did_you_mean

NESTED = "translation"
"""Column of dicts of text by language, as the hub's translation data sets have it."""
KNOWN_PAIRS = (
    ("source", "target"),
    ("src", "tgt"),
    ("input", "output"),
    ("input", "target"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("article", "highlights"),
    ("article", "summary"),
    ("text", "summary"),
    ("description", "abstract"),
    ("question", "answer"),
)
"""Columns that are sources and targets where nobody says otherwise."""


@dataclass(frozen=True)
class PairColumns:
    """Where sources and targets are.

    Attributes:
        source: column of the source, or its key in the nested column.
        targets: columns of the target; several hold a reference each.
        nested: column of dicts with both; `""` = they are columns of their own.
        template: text with names of columns in braces, which makes the source; `""` = it is a column.
        names: of the labels by id, where targets are these.
    """

    source: str
    targets: list[str]
    nested: str = ""
    template: str = ""
    names: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Returns plain values for a description."""
        return asdict(self)

    def needed(self, present: Sequence[str], labelled: bool) -> list[str]:
        """Returns the columns that are read of rows with these columns.

        Args:
            present: the columns that there are.
            labelled: whether targets are read, too.
        """
        if self.nested and self.nested in present:
            return [self.nested]
        return list(dict.fromkeys([*self.of_source, *(self.references_among(present) if labelled else [])]))

    @property
    def of_source(self) -> list[str]:
        """The columns that the source is made of, where it is not nested."""
        return template_fields(self.template) if self.template else [self.source]

    def references_among(self, present: Iterable[str]) -> list[str]:
        """Returns the columns of targets that are there; of `summary` also `summary1`, `summary2`, ..."""
        there = list(present)
        found = [name for name in self.targets if name in there]
        if found or len(self.targets) != 1:
            return found
        numbered = re.compile(re.escape(self.targets[0]) + r"_?\d+")
        return sorted(name for name in there if numbered.fullmatch(name))

    def check(self, present: Sequence[str], labelled: bool, place: str) -> None:
        """Makes sure that the columns are there.

        Raises:
            UserError: one is not; the closest name is said.
        """
        if self.nested and (self.nested in present or labelled):
            check_columns([self.nested], present, place)
            return
        check_columns(self.of_source, present, place)
        if labelled and not self.references_among(present):
            check_columns(self.targets, present, place)

    def sources(self, rows: Mapping[str, list[Any]]) -> list[str | None]:
        """Returns the source of each row."""
        if self.nested and self.nested in rows:
            return [_text((cell or {}).get(self.source)) for cell in rows[self.nested]]
        if self.template:
            cells = zip(*([_text(cell) or "" for cell in rows[name]] for name in self.of_source), strict=True)
            return [self.template.format_map(dict(zip(self.of_source, row, strict=True))) for row in cells]
        return [_text(cell) for cell in rows[self.source]]

    def references(self, rows: Mapping[str, list[Any]]) -> list[list[str]]:
        """Returns the targets of each row that hold text, each once, in their order."""
        if self.nested and self.nested in rows:
            columns = [[(cell or {}).get(name) for cell in rows[self.nested]] for name in self.targets]
        else:
            columns = [rows[name] for name in self.references_among(rows)]
        return [_references(cells, self.names) for cells in zip(*columns, strict=True)]


def find_columns(
    features: Mapping[str, Any],
    place: str,
    source: str,
    target: Names,
    languages: tuple[str | None, str | None],
    labelled: bool = True,
    template: str = "",
) -> PairColumns:
    """Finds the columns: as named, else nested by language, else called as languages, else known pairs.

    Args:
        features: of the first rows, by column.
        place: how messages name them.
        source: name of the column of sources, if given.
        target: name of the column of targets, or of several, if given.
        languages: codes of source and target, such as `en_XX`.
        labelled: whether there have to be targets.
        template: what makes the sources of several columns, if given.

    Raises:
        UserError: there is more than one reading, or none.
    """
    present, targets = list(features), as_list(target)
    if template:
        check_columns(template_fields(template), present, place)
        rest = [name for name in present if name not in template_fields(template)]
        targets = targets or ([_other(rest, [], place)] if labelled else ["target"])
        return _with_names(PairColumns("", targets, template=template), features)
    if source in features and hasattr(features[source], "keys"):  # the nested column is named itself
        return _of_nested(features[source], source, languages, place, labelled)
    if not source and not targets and hasattr(features.get(NESTED), "keys"):
        return _of_nested(features[NESTED], NESTED, languages, place, labelled)
    check_columns(filter(None, [source]), present, place)
    if targets and labelled and not PairColumns(source, targets).references_among(present):
        check_columns(targets, present, place)
    if not labelled:
        return _source_only(present, source, targets, languages, place)
    if source or targets:
        known = PairColumns(source or _other(present, targets, place), targets or [_other(present, [source], place)])
        return _with_names(known, features)
    if all(languages) and None not in (found := [_key_of(code, present) for code in languages]):
        if found[0] == found[1]:
            raise UserError(f"{place}: source_lang and target_lang are both read from {found[0]!r}: set the columns")
        return PairColumns(str(found[0]), [str(found[1])])
    pairs = [PairColumns(first, [second]) for first, second in KNOWN_PAIRS if first in present]
    pairs = [pair for pair in pairs if pair.references_among(present)]
    if len(pairs) == 1:
        return pairs[0]
    if len(present) == 2:
        return PairColumns(present[0], [present[1]])
    raise UserError(
        f"{place}: which column is the source, which the target? columns: {present}; set source_column and "
        "target_column"
    )


def template_fields(template: str) -> list[str]:
    """Returns the names of the columns of a template, each once.

    Raises:
        UserError: it has none, or a brace is not closed.
    """
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"source_template {template!r}: {error}") from None
    if not names or "" in names:
        raise UserError(f"source_template {template!r} names no column: write them in braces, such as {{question}}")
    return list(dict.fromkeys(names))


def _with_names(columns: PairColumns, features: Mapping[str, Any]) -> PairColumns:
    """Notes the names of labels that are targets."""
    known = [class_names(features, name) for name in columns.targets if name in features]
    return replace(columns, names=next(filter(None, known), []))


def _source_only(
    present: list[str], source: str, targets: list[str], languages: tuple[str | None, str | None], place: str
) -> PairColumns:
    """Finds the column of sources of rows to predict, which may have others beside it."""
    named = [source, _key_of(languages[0], present), *(first for first, _ in KNOWN_PAIRS if first in present)]
    found = list(dict.fromkeys(filter(None, named)))
    if not found and len(present) == 1:
        found = present
    if not source and len(found) != 1 and not (languages[0] and found):
        raise UserError(f"{place}: which column is the source? columns: {present}; set source_column")
    return PairColumns(str(found[0]), targets or ["target"])


def _of_nested(
    cells: Mapping[str, Any], name: str, languages: Sequence[str | None], place: str, labelled: bool
) -> PairColumns:
    keys = list(cells)
    if not all(languages):
        raise UserError(f"{place}: column {name!r} holds {keys}: set source_lang and target_lang")
    found = [_key_of(code, keys) for code in languages]
    if not labelled and found[1] is None:
        found[1] = languages[1]
    for code, key in zip(languages, found, strict=True):
        if key is None:
            raise UserError(f"{place}: column {name!r} holds no {code!r}: it has {keys}{did_you_mean(str(code), keys)}")
    if found[0] == found[1]:
        raise UserError(f"{place}: source_lang and target_lang are both {found[0]!r} in column {name!r} ({keys})")
    return PairColumns(str(found[0]), [str(found[1])], name)


def _key_of(code: str | None, keys: Sequence[str]) -> str | None:
    """Finds the key of a language: the code itself, else its first part (`ro_RO` is `ro`)."""
    if not code:
        return None
    short = re.split(r"[_-]", code.strip("_"))[0]
    return next((key for key in (code, short) if key in keys), None)


def _other(present: Sequence[str], taken: Sequence[str], place: str) -> str:
    """Finds the column that belongs to those that are named."""
    rest = [name for name in present if name not in taken]
    known = {
        second for pair in KNOWN_PAIRS for first, second in (pair, pair[::-1]) if first in taken and second in rest
    }
    if len(rest) == 1 or len(known) == 1:
        return rest[0] if len(rest) == 1 else known.pop()
    raise UserError(
        f"{place}: which column belongs to {list(taken)}? columns: {list(present)}; set source_column and target_column"
    )


def _references(cells: Iterable[Any], names: list[str]) -> list[str]:
    # SQuAD's answers are a dict with their texts
    several = [cell.get("text") if isinstance(cell, dict) else cell for cell in cells]
    parts = [part for cell in several for part in (cell if isinstance(cell, list) else [cell])]
    named = [names[part] if isinstance(part, int) and 0 <= part < len(names) else part for part in parts]
    texts = map(_text, named)
    return list(dict.fromkeys(text for text in texts if text is not None and text.strip()))


def _text(cell: Any) -> str | None:
    return None if cell is None else str(cell)
