"""Commands as a user types them: what they say, and that they fail well."""

from subspect.cli import main

RUN = ["--accelerator", "cpu", "--precision", "32-true", "--quiet"]
"""Words that have a training run on a CPU, quietly."""


def said(words: list[str], capsys) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = main(words)
    return code, *capsys.readouterr()


def assert_fails(words: list[str], capsys, *parts: str) -> None:
    """One clear line on standard error, exit code 1."""
    code, out, err = said(words, capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"subspect {words[0]}: ")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert all(part in err for part in parts), err
