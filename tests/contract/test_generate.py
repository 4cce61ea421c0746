"""Generating: what is written, what is removed, what is refused, and that it is good Python."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from protobuf.wkt import FileDescriptorSet
from protobuf.wkt.google.protobuf.compiler.plugin_pb import CodeGeneratorRequest, CodeGeneratorResponse

from interlock.contract.compile import compile_image
from interlock.contract.generate import NotGenerated, generate
from interlock.contract.mistakes import ContractError
from interlock.contract.plugin import respond
from interlock.contract.project import Project, ProjectError, read_project
from tests.contract.protos import HEADER, rpc, service, write

SAMPLE = Path(__file__).parents[1] / "sample"
CONFIG = '[tool.interlock]\ncontracts = "contracts"\noutput = "made/gen"\n'

NASTY = """
// Names that generated code has itself.
message Image { string path = 1; }
message Path { string from = 1; string self = 2; int32 pick = 3; string list = 4; }
message Call { repeated Image list = 1; }
message Client {}
message Kind { message Rpc { int32 id = 1; } Rpc rpc = 1; }
message Nothing {}
// Says "quotes", back\\\\slashes and \"\"\"more\"\"\"".
service Nasty {
  rpc List(Path) returns (Call) { option (interlock.v1.method).unauthenticated = true; }
  rpc GetHTTPInfo(Call) returns (Image) { option (interlock.v1.method).unauthenticated = true; }
  rpc Dict(Kind) returns (Kind.Rpc) { option (interlock.v1.method).unauthenticated = true; }
  rpc Same(Nothing) returns (Client) { option (interlock.v1.method).unauthenticated = true; }
  // Does "it"
  rpc Int(Query) returns (stream Query) { option (interlock.v1.method).unauthenticated = true; }
  rpc Nasty(Query) returns (Query) { option (interlock.v1.method).unauthenticated = true; }
}
service Other {
  rpc Same(stream Image) returns (stream Image) { option (interlock.v1.method).unauthenticated = true; }
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    write(tmp_path / "contracts", rpc(""))
    return read_project(tmp_path)


def names(project: Project, paths: list[Path]) -> list[str]:
    return [path.relative_to(project.output).as_posix() for path in paths]


EVERYTHING = ["__init__.py", "contract.binpb", "t/__init__.py", "t/v1/__init__.py", "t/v1/t_pb.py", "t/v1/t_rpc.py"]


def test_everything_is_written_once(project: Project) -> None:
    """A second run changes nothing."""
    assert names(project, generate(project)) == EVERYTHING
    assert generate(project) == []


def test_check_names_what_is_stale_and_writes_nothing(project: Project) -> None:
    """Before the first run that is everything; later what a change of the contract reaches."""
    assert names(project, generate(project, check=True)) == EVERYTHING
    assert not project.output.exists()
    generate(project)
    write(project.contracts, rpc("") + "message More {}")
    assert names(project, generate(project, check=True)) == ["contract.binpb", "t/v1/t_pb.py"]


def test_an_image_is_the_same_bytes_each_time(project: Project) -> None:
    """So generated code can be committed and compared."""
    assert compile_image([project.contracts]) == compile_image([project.contracts])


def test_an_image_holds_all_that_it_imports(project: Project) -> None:
    """It builds a registry by itself, with protovalidate's own descriptor of its rules."""
    files = FileDescriptorSet.from_binary(compile_image([project.contracts]))
    known = {each.name for each in files.file}
    assert all(name in known for each in files.file for name in each.dependency)
    assert files.to_registry().message("t.v1.Query") is not None
    assert [each.name for each in files.file if each.source_code_info] == ["t/v1/t.proto"]


def test_what_is_left_over_is_removed(project: Project) -> None:
    """Only files that say they are generated; their empty directories go with them."""
    write(project.contracts, "", "old/v1/old.proto")
    (project.contracts / "old/v1/old.proto").write_text('syntax = "proto3";\npackage old.v1;\nmessage Old {}\n')
    generate(project)
    mine = project.output / "mine.py"
    mine.write_text("MINE = 1\n")
    (project.contracts / "old/v1/old.proto").unlink()
    gone = ["old/__init__.py", "old/v1/__init__.py", "old/v1/old_pb.py"]
    assert [each for each in names(project, generate(project)) if each.startswith("old")] == gone
    assert not (project.output / "old").exists()
    assert mine.exists()


def test_a_file_of_the_users_is_not_overwritten(project: Project) -> None:
    """An `__init__.py` of theirs stays; any other file in the way is an error that names it."""
    project.output.mkdir(parents=True)
    (project.output / "__init__.py").write_text("MINE = 1\n")
    generate(project)
    assert (project.output / "__init__.py").read_text() == "MINE = 1\n"
    assert generate(project, check=True) == []
    (project.output / "t/v1/t_rpc.py").write_text("MINE = 1\n")
    with pytest.raises(NotGenerated, match=r"t_rpc\.py is not generated code"):
        generate(project)


def test_mistakes_stop_generation_and_name_files_from_the_project(project: Project) -> None:
    """Nothing is written; compile errors and broken rules look alike."""
    for text in (rpc("", access=""), "message M { Nowhere n = 1; }"):
        write(project.contracts, text)
        with pytest.raises(ContractError, match=r"\Acontracts/t/v1/t\.proto:\d+: "):
            generate(project)
    assert not project.output.exists()


def test_a_contract_without_files_is_a_mistake(tmp_path: Path) -> None:
    """The directory is named."""
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    with pytest.raises(ContractError, match=r"no \.proto file stands below it"):
        generate(read_project(tmp_path))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "it has no pyproject.toml with a \\[tool.interlock\\]"),
        ("[tool.interlock]\n", "needs `output`, a directory"),
        ("[tool.interlock]\noutput = 1\n", "needs `output`, a directory"),
        ('[tool.interlock]\noutput = "gen"\ncontract = "x"\n', "knows no 'contract'; did you mean 'contracts'?"),
        ("[tool.interlock\n", "pyproject.toml: "),
    ],
)
def test_a_wrong_configuration_is_told(tmp_path: Path, text: str, expected: str) -> None:
    """With the file, the key and an example."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ProjectError, match=expected):
        read_project(tmp_path)


def test_vendored_copies_of_bundled_files_are_left_out(project: Project) -> None:
    """Contracts that carry google/api beside them work as they are."""
    copy = project.contracts / "google/api/annotations.proto"
    copy.parent.mkdir(parents=True)
    copy.write_text('syntax = "proto3";\npackage google.api;\n')
    assert names(project, generate(project)) == EVERYTHING


def test_imports_that_no_package_brings_are_generated_too(project: Project) -> None:
    """google/type is bundled as .proto only."""
    write(project.contracts, 'import "google/type/money.proto";\n' + rpc("", reply="google.type.Money"))
    assert "google/type/money_pb.py" in names(project, generate(project))
    checked(project.root)


def test_the_sample_is_up_to_date() -> None:
    """What is committed is what is generated."""
    assert generate(read_project(SAMPLE), check=True) == []


def test_generated_code_is_what_ruff_would_write(project: Project) -> None:
    """Formatting leaves it alone."""
    write(project.contracts, NASTY)
    generate(project)
    for path in (project.output / "t/v1/t_rpc.py", SAMPLE / "gen/sample/v1/sample_rpc.py"):
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "120", "--diff", "-"]
        result = subprocess.run(command, input=path.read_text(), text=True, capture_output=True, check=False)
        assert result.stdout == ""


def test_generated_code_is_strictly_typed(project: Project) -> None:
    """Whatever the names in the contract."""
    write(project.contracts, NASTY)
    generate(project)
    checked(project.root)


def checked(root: Path) -> None:
    config = root / "mypy.ini"
    config.write_text(
        "[mypy]\nstrict = True\nexplicit_package_bases = True\nfollow_imports = silent\n"
        "[mypy-grpc.*,google.*]\nignore_missing_imports = True\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), str(root / "made")]
    source = str(Path(__file__).parents[2] / "src")
    result = subprocess.run(
        command, cwd=root, env={**os.environ, "MYPYPATH": source}, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def nasty(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    write(project.contracts, NASTY)
    generate(project)
    monkeypatch.syspath_prepend(str(project.root))
    yield importlib.import_module("made.gen.t.v1.t_rpc")
    for name in [each for each in sys.modules if each.partition(".")[0] == "made"]:
        del sys.modules[name]


def test_names_of_the_contract_never_hide_those_of_generated_code(nasty: ModuleType) -> None:
    """Messages called Image, Path or Call, an RPC called List, two RPCs with one name: all work."""
    assert nasty.NASTY_SAME.path == "/t.v1.Nasty/Same"
    assert nasty.OTHER_SAME.path == "/t.v1.Other/Same"
    assert nasty.NASTY_NASTY.path == "/t.v1.Nasty/Nasty"
    assert set(nasty.NASTY.rpcs) == {"list", "get_http_info", "dict", "same", "int", "nasty"}
    assert nasty.NASTY.image.contract.service("t.v1.Nasty").comment.startswith('Says "quotes"')
    assert "quotes" in (nasty.Nasty.__doc__ or "")
    assert nasty.Nasty.int.__doc__ == 'Does "it" '


def test_the_plugin_works_in_any_toolchain(tmp_path: Path, project: Project) -> None:
    """As a program on standard input and output it writes what `interlock generate` writes."""
    generate(project)
    files = FileDescriptorSet.from_binary(compile_image([project.contracts])).file
    request = CodeGeneratorRequest(file_to_generate=["t/v1/t.proto"], proto_file=files)
    command = [sys.executable, "-m", "interlock.contract.plugin"]
    result = subprocess.run(command, input=request.to_binary(), capture_output=True, check=True)
    response = CodeGeneratorResponse.from_binary(result.stdout)
    assert [each.name for each in response.file] == ["t/v1/t_rpc.py"]
    assert response.file[0].content == (project.output / "t/v1/t_rpc.py").read_text()


def test_the_plugin_refuses_options(project: Project) -> None:
    """Rather than ignore what somebody meant."""
    assert "takes no options" in respond(CodeGeneratorRequest(parameter="x=1")).error


def test_a_list_is_paged_and_nothing_else(project: Project) -> None:
    """Both tokens, and exactly one repeated message."""
    request = "message Ask { int32 page_size = 1; string page_token = 2; }\n"
    replies = (
        "message List { repeated Inner items = 1; string next_page_token = 2; }\n"
        "message Two { repeated Inner a = 1; repeated Inner b = 2; string next_page_token = 3; }\n"
        "message Words { repeated string words = 1; string next_page_token = 2; }\n"
    )
    said = "{ option (interlock.v1.method).unauthenticated = true; }"
    rpcs = "\n".join(f"rpc Get{each}(Ask) returns ({each}) {said}" for each in ("List", "Two", "Words"))
    write(project.contracts, request + replies + service(rpcs))
    generate(project)
    text = (project.output / "t/v1/t_rpc.py").read_text()
    assert "-> Paged[List, Inner]:" in text
    assert text.count("self._paged(") == 1
    assert HEADER
