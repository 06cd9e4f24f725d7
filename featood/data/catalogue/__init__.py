"""Sets by name: the registry, suites and benchmarks, opening and downloading."""
