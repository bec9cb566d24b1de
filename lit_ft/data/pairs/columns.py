"""Which cells of a row are the source and its targets: two columns, a nested column, several references."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from string import Formatter
from typing import Any

from datasets import Translation

from lit_ft.data.labels import class_names
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.errors import RowError, UserError, did_you_mean

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

    def needed_of(self, kind: Split, sets: Iterable[RawRows]) -> list[str]:
        """Returns the columns that are read of all sets of a kind of split.

        Raises:
            UserError: they are not there, or not the same in all.
        """
        labelled, needed = kind != "predict", set[tuple[str, ...]]()
        for rows in sets:
            self.check(rows.data.column_names, labelled, rows.place)
            needed.add(tuple(self.needed(rows.data.column_names, labelled)))
        if len(needed) > 1:
            raise UserError(f"the {kind} sets have their texts in different columns: {sorted(needed)}")
        return list(*needed)

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
        """Returns the source of each row.

        Raises:
            RowError: a cell holds several texts.
        """
        if self.nested and self.nested in rows:
            return _texts([(cell or {}).get(self.source) for cell in rows[self.nested]], self.source)
        if self.template:
            cells = zip(*([text or "" for text in _texts(rows[name], name)] for name in self.of_source), strict=True)
            return [self.template.format_map(dict(zip(self.of_source, row, strict=True))) for row in cells]
        return _texts(rows[self.source], self.source)

    def references(self, rows: Mapping[str, list[Any]]) -> list[list[str]]:
        """Returns the targets of each row that hold text, each once, in their order.

        Of SQuAD's questions without an answer (`{"text": []}`) it is one empty text, as in run_seq2seq_qa.

        Raises:
            RowError: a cell is a dict without `text`.
        """
        if self.nested and self.nested in rows:
            columns = [[(cell or {}).get(name) for cell in rows[self.nested]] for name in self.targets]
        else:
            columns = [rows[name] for name in self.references_among(rows)]
        return [_references(row, cells, self.names) for row, cells in enumerate(zip(*columns, strict=True))]


@dataclass(frozen=True)
class AskedPairs:
    """What a user says of the columns.

    Attributes:
        source: name of the column of sources; `""` = not said.
        targets: name of the column of targets, or of several; empty = not said.
        template: what makes the sources of several columns; `""` = nothing.
        languages: codes of source and target, such as `en_XX`.
        lines: what the column of lines of a text file of sources is called.
    """

    source: str
    targets: list[str]
    template: str
    languages: tuple[str | None, str | None]
    lines: str


def find_columns(rows: RawRows, asked: AskedPairs, known: Mapping[str, Any], labelled: bool) -> PairColumns:
    """Finds the columns: as named, else known, nested by language, called as languages, or known pairs.

    Args:
        rows: the first ones.
        asked: what the user says.
        known: description of a checkpoint, or nothing.
        labelled: whether there have to be targets.

    Raises:
        UserError: there is more than one reading, or none.
    """
    source, targets, template, languages = asked.source, asked.targets, asked.template, asked.languages
    features, place, present = rows.data.features, rows.place, list(rows.data.features)
    if not labelled and present == [asked.lines] and not template:
        return PairColumns(asked.lines, ["target"])  # a text file to predict, whatever train's columns are called
    if "columns" in known and not (source or targets or template):
        return PairColumns(**known["columns"])
    if template:
        check_columns(template_fields(template), present, place)
        rest = [name for name in present if name not in template_fields(template)]
        targets = targets or ([_other(rest, [], place)] if labelled else ["target"])
        return _with_names(PairColumns("", targets, template=template), features)
    nested = NESTED if _keys(features.get(NESTED)) and not {source, *targets} & {*features} else ""
    if _keys(features.get(source)):  # the nested column is named itself
        nested, source = source, ""
    if nested:
        wanted = [source or languages[0], *(targets or languages[1:])]
        return _of_nested(_keys(features[nested]), nested, wanted, place, labelled)
    check_columns(filter(None, [source]), present, place)
    if targets and labelled and not PairColumns(source, targets).references_among(present):
        check_columns(targets, present, place)
    if not labelled:
        return _source_only(present, source, targets, languages, place)
    if source or targets:
        both = source or _other(present, targets, place), targets or [_other(present, [source], place)]
        return _with_names(PairColumns(*both), features)
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
    if len(present) < 2:
        raise UserError(f"{place}: there is one column, {present}: no target (parallel text files come in twos)")
    raise UserError(
        f"{place}: which column is the source, which the target? columns: {present}; set source_column_name and "
        "target_column_names"
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
        raise UserError(f"{place}: which column is the source? columns: {present}; set source_column_name")
    return PairColumns(str(found[0]), targets or ["target"])


def _keys(feature: Any) -> list[str]:
    """Returns the keys of a column of dicts, as the hub's translation data sets and files of JSON have it."""
    return list(feature.languages) if isinstance(feature, Translation) else list(getattr(feature, "keys", list)())


def _of_nested(keys: list[str], name: str, wanted: Sequence[str | None], place: str, labelled: bool) -> PairColumns:
    """Finds the keys of a source and its targets, by their own names or by language."""
    if not all(wanted):
        raise UserError(f"{place}: column {name!r} holds {keys}: set source_lang and target_lang")
    found = [_key_of(code, keys) for code in wanted]
    if not labelled:
        found[1:] = [key or code for key, code in zip(found[1:], wanted[1:], strict=True)]
    for code, key in zip(wanted, found, strict=True):
        if key is None:
            hint = did_you_mean(str(code), keys) or ": set source_column_name and target_column_names to two of them"
            raise UserError(f"{place}: column {name!r} holds no {code!r}: it has {keys}{hint}")
    if found[0] in found[1:]:
        raise UserError(f"{place}: source and target are both {found[0]!r} in column {name!r} ({keys})")
    return PairColumns(str(found[0]), [str(key) for key in found[1:]], name)


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
        f"{place}: which column belongs to {list(taken)}? columns: {list(present)}; set "
        "source_column_name and target_column_names"
    )


def _references(row: int, cells: Sequence[Any], names: list[str]) -> list[str]:
    parts = [part for cell in cells for part in _parts(row, cell)]
    named = [names[part] if isinstance(part, int) and 0 <= part < len(names) else part for part in parts]
    texts = list(dict.fromkeys(str(part) for part in named if part is not None and str(part).strip()))
    unanswerable = any(isinstance(cell, dict) and cell.get("text") == [] for cell in cells)
    return [""] if unanswerable and not texts else texts


def _parts(row: int, cell: Any) -> list[Any]:
    """Returns the texts of a cell of targets: one, a list, or SQuAD's answers (a dict with its texts, or several)."""
    if isinstance(cell, list):
        return [part for each in cell for part in _parts(row, each)]
    if not isinstance(cell, dict):
        return [cell]
    if "text" not in cell:
        raise RowError(row, f"the target is a dict of {list(cell)}: of dicts `text` is read; name another column")
    return _parts(row, cell["text"])


def _texts(cells: list[Any], column: str) -> list[str | None]:
    for row, cell in enumerate(cells):
        if isinstance(cell, (list, dict)):
            kind = "list" if isinstance(cell, list) else "dict"
            raise RowError(row, f"column {column!r} holds a {kind}: a source is one text; join it, or name another one")
    return [None if cell is None else str(cell) for cell in cells]
