"""An option takes effect where it is handed to, or one file further on; `python -m tests.ways` shows how."""

from tests.ways import files, longest_ways


def test_no_way_is_longer_than_two_files() -> None:
    found = {" ".join(option): way for option, way in longest_ways().items()}
    assert files(found["BuiltModule config_overrides"]) == 2  # ModelSource -> override
    assert not {option: way for option, way in found.items() if files(way) > 2}
