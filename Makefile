# Everything a newcomer needs; `make help` explains each. The environment is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTED := $(VENV)/.tested
PEERS := .venv-peers
RUN ?= models/trained/small
PORT ?= 50051
HTTP_PORT ?= 8000
ADDRESS ?= $(RAY_API_SERVER_ADDRESS)

.DEFAULT_GOAL := help
.PHONY: help install environments demo test test-fast test-documents test-peers test-gpu soak drill deploy-check lint type proto \
	bench bench-check bench-peers bench-gpu serve submit images image-replay clean

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with the pinned dependencies and this checkout

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

environments: $(TESTED) $(PEERS)/.installed # side by side by make -j2

# What only tests need: optional packages (torchao would slow every start of the demo down), a browser for pages, and
# Prometheus's promtool for alert rules, without which those tests are skipped.
$(TESTED): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,tests,bench,mlflow,wandb,eightbit,otlp,aws,datasets]'
	@command -v chromium chromium-browser google-chrome-stable google-chrome > /dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install --yes chromium > /dev/null; } \
		|| $(BIN)/playwright install chromium
	@command -v promtool > /dev/null || [ "$$(id -u)" != 0 ] \
		|| { apt-get -qq update && apt-get -qq install --yes --no-install-recommends prometheus > /dev/null; }
	@! command -v npm > /dev/null || npm ci --loglevel=error --no-audit --no-fund --prefix tests/t2i/serve/http/node
	@touch $@

demo: $(STAMP) ## train and evaluate the tiny preset on the embedded data, serve the shipped models (about 9 minutes)
	$(BIN)/python jobs/demo.py

test: $(TESTED) ## every test that needs no GPU, but the long ones (about 14 minutes on two cores)
	$(BIN)/pytest -n 2 -m 'not gpu and not soak and not documents and not ray'
	$(BIN)/pytest -n 2 --dist loadfile -m 'ray and not gpu and not soak and not documents'

test-fast: $(TESTED) ## models, engine, metrics, configuration: seconds
	$(BIN)/pytest -n 2 -m 'not gpu and not soak and not documents and not ray and not slow'

soak: $(TESTED) ## long tests: kills, a lost node, a store that goes away, random mixes, a service under fire (T2I_SOAK=0.1: a tenth)
	$(BIN)/pytest -n 2 --dist loadfile -m 'soak and not gpu and not drill' --ignore tests/t2i/serve
	$(BIN)/pytest tests/t2i/serve/soak
	$(BIN)/pytest -m 'soak and not gpu and not drill' tests/t2i/serve --ignore tests/t2i/serve/soak

drill: $(TESTED) ## a cluster loses nodes, its head and its load while it serves and works: a table and a plot in runs/drill (T2I_SOAK=0.1: short)
	$(BIN)/pytest -m drill
	$(BIN)/python -m tests.drill runs/drill

deploy-check: $(TESTED) ## render the manifests of deploy/ and check them: schemas, rules of KubeRay and ours (part of make test)
	$(BIN)/pytest tests/deploy

deploy/monitoring/prometheus-rule.yaml: deploy/monitoring/alerts.yaml # keeps its head, down to spec:
	@{ sed '/^spec:/q' $@; sed '/^#/d; s/^\(.\)/  \1/' $<; } > $@.new && mv $@.new $@

test-documents: $(TESTED) ## run the jobs that README and cards print, with little to do; README's lines for a cluster on two nodes (about 20 minutes)
	$(BIN)/pytest -m documents

test-peers: $(PEERS)/.installed ## models and figures against other implementations (the extra `peers`, an environment of its own)
	$(PEERS)/bin/pytest tests/peers

test-gpu: $(STAMP) ## what only an NVIDIA GPU runs, on one or two of them (needs Python's headers; minutes)
	$(BIN)/pytest -m gpu $$(grep -rl --include='*.py' 'mark\.gpu' tests)

$(PEERS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev,tests,peers]'
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt --no-deps dalle-pytorch # youtokentome: no build
	@touch $@

lint: $(STAMP) ## ruff, the import directions, and the protos: style, and that they break no client of main's
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	@git rev-parse --quiet --verify main > /dev/null 2>&1 || { echo "no branch main: protos are not compared"; exit 0; }; \
		$(BIN)/buf breaking --against "$$(git rev-parse --git-common-dir)#branch=main,subdir=platform"

type: $(TESTED) ## mypy
	$(BIN)/mypy

proto: $(STAMP) ## generate the gRPC code from platform/t2i/protos
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=platform --python_out=platform \
		--grpc_python_out=platform --mypy_out=platform --mypy_grpc_out=platform platform/t2i/protos/v1/*.proto

bench: export BENCH_RESULT := $(CURDIR)/runs/bench.json
bench: export PYTHONPATH := $(CURDIR)  # before a package of that name, which another one installs: tests
bench: $(TESTED) ## time the parts side by side on this machine (RECORD=1: keep the ratios for bench-check)
	@mkdir -p runs && rm -f $$BENCH_RESULT
	$(BIN)/python jobs/benchmarks/bench_engine.py
	$(BIN)/python jobs/benchmarks/bench_drafts.py
	$(BIN)/python jobs/benchmarks/bench_attention.py
	$(BIN)/python jobs/benchmarks/bench_stages.py
	$(BIN)/python jobs/benchmarks/bench_train.py
	$(BIN)/python jobs/benchmarks/bench_storage.py
	$(BIN)/python jobs/benchmarks/bench_eval.py run=$(RUN) captions=256
	$(BIN)/python jobs/benchmarks/bench_fid.py
	$(BIN)/python jobs/benchmarks/bench_serve.py run=$(RUN)
	$(BIN)/python jobs/benchmarks/bench_simulation.py run=$(RUN)
	$(if $(RECORD),cp $$BENCH_RESULT jobs/benchmarks/recorded.json)

bench-check: $(STAMP) ## compare the ratios of the last bench with those kept, and name what fell by more than a tenth
	$(BIN)/python jobs/benchmarks/bench_check.py

bench-peers: $(PEERS)/.installed ## time them beside other implementations
	$(PEERS)/bin/python jobs/benchmarks/bench_engine.py peers=true
	$(PEERS)/bin/python jobs/benchmarks/bench_stages.py peers=true
	$(PEERS)/bin/python jobs/benchmarks/bench_train.py peers=true

bench-gpu: $(STAMP) ## time an NVIDIA GPU beside what it reaches, into docs/benchmarks.md (needs Python's headers; under ten minutes)
	$(BIN)/python jobs/benchmarks/bench_gpu.py

serve: $(STAMP) ## serve the models of RUN (default: those that come with the code): gRPC on PORT (50051), page on HTTP_PORT (8000)
	$(BIN)/t2i serve --run $(RUN) --port $(PORT) http_port=$(HTTP_PORT)

submit: $(STAMP) ## run JOB with ARGS on the cluster whose dashboard is at ADDRESS, such as http://head:8265
	@$(BIN)/python jobs/submit.py '$(JOB)' '$(ADDRESS)' $(ARGS)

images: ## build the images for a cluster: make images BASE=debian:bookworm-slim@sha256:... [CPU=1] (deploy/docker/README.md)
	deploy/docker/build.sh cpu
	$(if $(CPU),,deploy/docker/build.sh cuda)

image-replay: ## build them without a registry of images, as root on Debian, and try the one for CPUs (over 20 GB)
	deploy/docker/replay.sh

clean: ## remove the environment, caches and runs
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache runs dist
	find . -name __pycache__ -type d -exec rm -rf {} +
