"""The script behind `deploy/mutate-guards` finds the guards, and each guard of the proof is shown by a test."""

import subprocess
import sys
from pathlib import Path

import pytest
from guards import mutants

SCRIPT = Path(__file__).with_name("forgotten_guards.py")
PROOF = ["decision.proves", "decision.decide", "association._fits"]


def changed(source: str) -> set[str]:
    """The bodies of the mutants of a function `f`, each on one line."""
    header, *_ = source.split("\n")
    return {mutant.source.removeprefix(header).strip().replace("\n    ", "; ") for mutant in mutants("m", source)}


@pytest.mark.parametrize(
    ("source", "forgotten"),
    [
        ("def f(a):\n    return a", set()),
        ("def f(a, b):\n    return a and b", {"return a and a", "return b and b"}),
        ("def f(a, b):\n    return 1 if a else b", {"return 1 if True else b", "return 1 if False else b"}),
        ("def f(a, b):\n    return a < b", {"return a <= b"}),
        ("def f(a, b):\n    return (a, 1) == (b, 2)", {"return (1,) == (2,)", "return (a,) == (b,)"}),
        ("def f(a, b):\n    return min(a, b)", {"return min(a, a)", "return min(b, b)"}),
        ("def f(a):\n    return [b for b in a if b]", {"return [b for b in a]"}),
        ("def f(a):\n    while a:\n        a()", {"while False:;     a()"}),
        (
            "def f(a, b, c):\n    return a <= b <= c",
            {"return a < b <= c", "return a <= b < c", "return a <= b", "return b <= c"},
        ),
    ],
)
def test_every_way_to_forget_a_guard_is_found(source, forgotten):
    assert changed(source) == forgotten


def test_the_guard_of_a_case_and_an_early_return_are_guards():
    source = (
        "def f(a):\n    match a:\n        case 1 if a:\n            return 1\n    if a:\n        a()\n        return 2"
    )
    found = {f"{mutant.guard} -> {mutant.change}" for mutant in mutants("m", source)}
    assert found == {"a -> no guard", "a -> False", "a -> True", "a -> False (2)", "a -> no return 2"}


def test_names_tell_mutants_apart_and_do_not_depend_on_lines():
    source = "def f(a):\n    return (1 if a else 2) + (3 if a else 4)\n"
    names = [mutant.name for mutant in mutants("m", source)]
    assert len(set(names)) == len(names) == 4
    assert [mutant.name for mutant in mutants("m", "\n\n" + source)] == names


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=240)


def test_no_guard_of_the_proof_can_be_forgotten():
    """The whole is `deploy/mutate-guards`."""
    done = run("--quick", *PROOF)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SURVIVED" not in done.stdout


def test_a_function_without_guards_is_named():
    done = run("decision.prove")
    assert done.returncode == 1 and "decision.prove" in done.stderr
