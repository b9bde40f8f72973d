"""Is half alt text, half graph better than either alone? On invented pictures, in minutes.

    make experiment            # python -m training.experiment --graph … --out data/experiment

EntityNet's finding, in a world that is small enough for two cores and of which everything is known:
`things.toml` says what there is to be seen and of which entities of the bundled sample, `plan.toml`
all sizes, shares of noise, runs and measures. docs/experiment.md has what came out.
"""
