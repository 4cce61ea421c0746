"""Where things stand in a `.proto` file, and their comments: one map a file, from the image's source info."""

from functools import cached_property

from protobuf.wkt.google.protobuf.descriptor_pb import FileDescriptorProto, SourceCodeInfo

from interlock.contract.model import Source

Path = tuple[int, ...]
"""A path into FileDescriptorProto, as descriptor.proto's SourceCodeInfo defines it."""


class Sources:
    """Looks up the lines and comments of one file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file

    @cached_property
    def _locations(self) -> dict[Path, SourceCodeInfo.Location]:
        info = self._file.source_code_info
        return {tuple(each.path): each for each in reversed(info.location)} if info is not None else {}

    def comment(self, path: Path) -> str:
        """Return the comment of the element at `path`: before it, else behind it; empty without one."""
        found = self._locations.get(path)
        if found is None:
            return ""
        text = found.leading_comments or found.trailing_comments
        lines = (line.removeprefix(" ").rstrip() for line in text.strip("\n").splitlines())
        return "\n".join(line for line in lines if not line.startswith("interlock:ignore")).strip()

    def source(self, path: Path) -> Source:
        """Return where the element at `path` stands: else its first part that is known, else what holds it."""
        found = self._locations.get(path)
        if found is not None:
            return Source(self._file.name, found.span[0] + 1)
        while path and path not in self._first_lines:
            path = path[:-1]
        return Source(self._file.name, self._first_lines.get(path, 0) if path else 0)

    @cached_property
    def _first_lines(self) -> dict[Path, int]:
        """For each path and each of its beginnings, the first line where something of it stands."""
        lines: dict[Path, int] = {}
        for path, location in self._locations.items():
            line = location.span[0] + 1
            for size in range(1, len(path) + 1):
                lines[path[:size]] = min(line, lines.get(path[:size], line))
        return lines
