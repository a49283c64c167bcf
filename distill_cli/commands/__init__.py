"""One module a command: ``run(cfg, out) -> report`` under Hydra, ``main(argv) -> exit code`` without."""
