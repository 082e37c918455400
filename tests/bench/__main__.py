"""`python -m tests.bench [--only NAME]`: run the benchmarks of every module here that is named `bench_*`."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import tests.bench
from tests.bench.harness import Benchmark, main


def all_benchmarks() -> Iterator[Benchmark]:
    """Yield the benchmarks that the modules declare in their `BENCHMARKS`."""
    for module in pkgutil.iter_modules(tests.bench.__path__):
        if module.name.startswith("bench_"):
            yield from importlib.import_module(f"tests.bench.{module.name}").BENCHMARKS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], list(all_benchmarks())))
