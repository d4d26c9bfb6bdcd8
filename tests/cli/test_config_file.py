"""`palpate.toml`: a user's defaults, read strictly."""

from pathlib import Path
from typing import Annotated, Any

import platformdirs
import pytest
import typer
from typer.testing import CliRunner

import palpate.cli.config_file
from palpate.cli import app
from palpate.cli.config_file import find_config, read_config
from palpate.cli.console import Console, LogOption, QuietOption, Verbs, begin
from palpate.cli.verbs import verb
from palpate.errors import SettingsError


@pytest.fixture
def dug() -> list[dict[str, Any]]:
    """What the verbs of `small` were given."""
    return []


@pytest.fixture
def small(dug: list[dict[str, Any]]) -> typer.Typer:
    """An application with an option of each kind, and a group of verbs."""
    small, below = typer.Typer(cls=Verbs), typer.Typer()
    small.add_typer(below, name="visit")

    @small.callback(invoke_without_command=True)
    def common(context: typer.Context, quiet: QuietOption = False, log: LogOption = None) -> None:
        begin(context, quiet, log)

    @verb(small, examples=("a",))
    def dig(
        console: Console,
        depth: Annotated[int, typer.Option(min=0)] = 1,
        width: float = 1.0,
        zoom: bool = True,
        model: str = "palpate-tiny",
        click: Annotated[list[str] | None, typer.Option()] = None,
        out: Path | None = None,
    ) -> None:
        """Dig."""
        dug.append({"depth": depth, "width": width, "zoom": zoom, "model": model, "click": click, "out": out})
        console.result({}, ["dug"])

    for name in ("add", "undo"):

        @verb(below, name, examples=("a",))
        def operation(console: Console, times: int = 1, model: str = "m") -> None:
            """Do it."""
            dug.append({"times": times, "model": model})

    return small


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the current folder, which is a new one."""
    monkeypatch.delenv("PALPATE_CONFIG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name, appauthor: tmp_path / "home" / name)
    return tmp_path / "palpate.toml"


def run(app: typer.Typer, *words: str) -> Any:
    return CliRunner().invoke(app, words, prog_name="palpate", catch_exceptions=False)


def test_defaults_of_each_kind(small: typer.Typer, dug: list[dict[str, Any]], config: Path) -> None:
    config.write_text(
        '[dig]\ndepth = 3\nwidth = 2\nzoom = false\nmodel = "other"\nclick = ["1,2,3", "4,5,6"]\nout = "made/here"\n'
    )
    assert run(small, "dig").exit_code == 0
    assert dug == [
        {
            "depth": 3, "width": 2.0, "zoom": False, "model": "other", "click": ["1,2,3", "4,5,6"],
            "out": Path("made/here"),
        }
    ]  # fmt: skip


def test_the_command_line_wins(small: typer.Typer, dug: list[dict[str, Any]], config: Path) -> None:
    config.write_text('[dig]\ndepth = 3\nzoom = false\nclick = ["1,2,3"]\n')
    run(small, "dig", "--depth", "7", "--zoom", "--click", "9,9,9")
    assert (dug[0]["depth"], dug[0]["zoom"], dug[0]["click"]) == (7, True, ["9,9,9"])


def test_verbs_below_a_verb(small: typer.Typer, dug: list[dict[str, Any]], config: Path) -> None:
    config.write_text('[visit]\nmodel = "all"\ntimes = 2\n[visit.undo]\ntimes = 5\n')
    run(small, "visit", "add")
    run(small, "visit", "undo")
    assert dug == [{"times": 2, "model": "all"}, {"times": 5, "model": "all"}]


def test_quiet_and_log_stand_before_the_tables(small: typer.Typer, config: Path) -> None:
    config.write_text('quiet = true\nlog = "run.log"\n')
    assert run(small, "dig").output == ""
    log = config.with_name("run.log").read_text()
    assert "INFO: configuration: palpate.toml\n" in log
    assert "INFO: dug\n" in log
    run(small, "--log", "other.log", "dig")
    assert config.with_name("run.log").read_text() == log


def test_a_relative_path_counts_from_the_files_folder(
    small: typer.Typer, dug: list[dict[str, Any]], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config.parent / "elsewhere"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "liver.safetensors").touch()
    (folder / "mine.toml").write_text('[dig]\nmodel = "models/liver.safetensors"\nout = "made"\n')
    monkeypatch.setenv("PALPATE_CONFIG", str(folder / "mine.toml"))
    run(small, "dig")
    assert (dug[0]["model"], dug[0]["out"]) == (str(folder / "models/liver.safetensors"), folder / "made")
    (folder / "mine.toml").write_text('[dig]\nmodel = "palpate-tiny"\nout = "~/made"\n')
    run(small, "dig")
    assert (dug[1]["model"], dug[1]["out"]) == ("palpate-tiny", Path.home() / "made")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dig\n", "not a TOML file"),
        ("[dgi]\n", r"\[dgi\]: no such verb. Did you mean 'dig'\? There are dig, visit"),
        ("[visit.ad]\n", r"\[visit.ad\]: no such verb. Did you mean 'add'\? There are add, undo"),
        ("[dig]\ndpeth = 1\n", r"\[dig\] dpeth: no such option. Did you mean 'depth'\? There are click, depth"),
        ("[visit]\ndepth = 1\n", r"\[visit\] depth: no such option. There are "),
        ("[dig]\nno-zoom = true\n", r"\[dig\] no-zoom: no such option. Did you mean 'zoom'"),
        ("depth = 1\n", "before the tables depth: no such option. There are log, quiet"),
        ("[dig]\nhelp = true\n", r"\[dig\] help: no such option"),
        ("[dig]\ndepth = 1.5\n", r"\[dig\] depth = 1.5: give a whole number"),
        ("[dig]\ndepth = true\n", r"\[dig\] depth = True: give a whole number"),
        ("[dig]\nwidth = 'wide'\n", r"\[dig\] width = 'wide': give a number"),
        ("[dig]\nzoom = 1\n", r"\[dig\] zoom = 1: give true or false"),
        ("[dig]\nmodel = 3\n", r"\[dig\] model = 3: give a text in quotes"),
        (
            "[dig]\nclick = '1,2,3'\n",
            r"\[dig\] click = '1,2,3': the option may be repeated; give a list, as \['1,2,3'\]",
        ),
        ("[dig]\nclick = [1]\n", r"\[dig\] click = 1: give a text in quotes"),
    ],
)
def test_what_no_verb_knows_is_one_line(small: typer.Typer, config: Path, text: str, message: str) -> None:
    config.write_text(text)
    done = run(small, "dig")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    with pytest.raises(SettingsError, match=f"palpate.toml: {message}"):
        read_config(config, typer.main.get_command(small))


def test_a_value_out_of_range_is_one_line(small: typer.Typer, config: Path) -> None:
    config.write_text("[dig]\ndepth = -1\n")
    done = run(small, "dig")
    assert done.exit_code == 2
    assert "Invalid value for '--depth'" in done.stderr


def test_which_file_is_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config() is None
    home = config.parent / "home" / "palpate" / "palpate.toml"
    home.parent.mkdir(parents=True)
    home.touch()
    assert find_config() == home
    config.touch()
    assert find_config() == Path("palpate.toml")
    monkeypatch.setenv("PALPATE_CONFIG", "")
    assert find_config() is None
    monkeypatch.setenv("PALPATE_CONFIG", str(config.parent / "none.toml"))
    with pytest.raises(SettingsError, match=r"PALPATE_CONFIG names .*none\.toml, and there is no such file"):
        find_config()


def test_the_example_in_its_description_is_read(tmp_path: Path) -> None:
    text = str(palpate.cli.config_file.__doc__).split("::\n", 1)[1].split("A table holds", 1)[0]
    path = tmp_path / "palpate.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    read = read_config(path, typer.main.get_command(app))
    assert read.verbs["segment"] == {"model": "models/liver.safetensors", "device": "cpu"}
    assert read.verbs["session"]["add"]["box"] == ["100,70,40,140,110,52"]
    assert read.verbs["session"]["replay"] == {"model": "models/liver.safetensors"}
    assert read.log == tmp_path / "palpate.log"


def test_the_home_folder_of_no_user_is_one_line(
    small: typer.Typer, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('[dig]\nout = "~nosuchuser/here"\n')
    done = run(small, "dig")
    assert done.exit_code == 2
    assert "palpate.toml: [dig] out = '~nosuchuser/here': there is no such user's home folder" in done.stderr
    monkeypatch.setenv("PALPATE_CONFIG", "~nosuchuser/palpate.toml")
    with pytest.raises(SettingsError, match=r"PALPATE_CONFIG = '~nosuchuser/palpate.toml': there is no such user's"):
        find_config()


def test_the_help_is_shown_whatever_the_file_holds(small: typer.Typer, config: Path) -> None:
    config.write_text("[dig]\ndepht = 1\n")
    done = run(small, "dig", "--help")
    assert done.exit_code == 0
    assert "--depth" in done.stdout
    assert "warning: palpate.toml: [dig] depht: no such option" in done.stderr
    assert run(small, "dig").exit_code == 2


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("quiet = true\n", ("dig",), ""),
        ("quiet = true\n", ("dig", "--no-quiet"), "dug"),
        ("quiet = true\n", ("--no-quiet", "dig"), "dug"),
        ("quiet = true\n", ("--no-quiet", "dig", "-q"), ""),
        ("quiet = true\n[dig]\nquiet = false\n", ("dig",), "dug"),
        ("[dig]\nquiet = true\n", ("dig",), ""),
        ("[dig]\nquiet = true\n", ("--no-quiet", "dig"), "dug"),
        ("[dig]\njson = true\n", ("dig", "--no-json"), "dug"),
        ("", ("-q", "dig", "--no-quiet"), "dug"),
        ("", ("-q", "dig"), ""),
    ],
)
def test_a_flag_of_the_file_can_be_taken_back(
    small: typer.Typer, config: Path, text: str, words: tuple[str, ...], shown: str
) -> None:
    config.write_text(text)
    done = run(small, *words)
    assert (done.exit_code, done.stdout.strip(), done.stderr) == (0, shown, "")


def test_every_flag_of_the_verbs_can_be_taken_back_and_the_help_is_as_short_as_before(config: Path) -> None:
    config.write_text("[batch]\noverwrite = true\nloose-box = true\n")
    done = run(app, "batch", "none.csv", "--no-overwrite", "--no-loose-box", "--no-json")
    assert (done.exit_code, done.stderr.split(":")[:2]) == (2, ["error", " none.csv"])
    assert "--no-overwrite" not in run(app, "batch", "--help").stdout
