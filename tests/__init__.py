"""The tests are a package, so that the suites share helpers by one name: `from tests.tools.build import build`."""
