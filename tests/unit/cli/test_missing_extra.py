"""A command whose optional packages are absent says which, and how to get them."""

from bastide.cli.failures import EXIT_BAD_INPUT, EXIT_FAULT, Failure, exit_code_of


def test_an_absent_package_is_named_with_the_way_to_get_it():
    error = ModuleNotFoundError("No module named 'uvloop'", name="uvloop")
    failure = Failure.of(error)
    assert (failure.code, exit_code_of(error)) == ("cli.extra", EXIT_BAD_INPUT)
    assert "'uvloop'" in failure.message
    assert "pip install" in failure.hint


def test_an_absent_module_of_ours_stays_a_fault():
    error = ModuleNotFoundError("No module named 'bastide.gone'", name="bastide.gone")
    assert (Failure.of(error).code, exit_code_of(error)) == ("internal.fault", EXIT_FAULT)
