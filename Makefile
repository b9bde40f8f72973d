# sparqless. `make` alone lists what there is. Every target makes .venv itself.
#
#   make graph                                            the bundled sample, into data/sample
#   make graph DUMP=/path/latest-all.json.gz DATA=/big/disk RECIPE=living WORKERS=16
#   make graph DUMP=https://… CONTACT=you@example.org     (also LANGUAGES=de,en,mul PROPERTIES=FILE)
#   make graph DUMP=… ETL_ARGS="--update-from data/old"   whatever else `sparqless etl` takes
#   make images                                           the sample's images: found, fetched from loopback, packed
#   make images DUMP=… MEDIAINFO=/path/commons-20261116-mediainfo.json.bz2 CONTACT=you@example.org
#   make images DUMP=… MEDIAINFO=… IMAGE=/path/commonswiki-20261101-image.sql.gz URLS=mine.csv
#   make images DUMP=… MEDIAINFO=… CONTACT=… FETCH_ARGS="--limit 500" PACK_ARGS=--unfinished    a first look
#   make experiment                                       half alt text, half graph: in minutes, without a GPU
#   make images DUMP=… FETCH_ARGS="--retry transient" PACK_ARGS="--against /data/imagenet/val" SHARDS=s3://bucket/shards

PYTHON  ?= python3
VENV    ?= .venv
DATA    ?= $(if $(DUMP),data,data/sample)
DUMP    ?=
RECIPE  ?= entitynet
WORKERS ?=
LANGUAGES ?=
PROPERTIES ?=
CONTACT ?=
ETL_ARGS ?=
MEDIAINFO ?= $(if $(DUMP),,$(dir $(SAMPLE))commons-mediainfo.json.gz)
IMAGE   ?= $(if $(DUMP),,$(dir $(SAMPLE))commonswiki-image.sql.gz)
URLS    ?= $(if $(DUMP),,etl/sample/addresses.tsv)
COMMONS ?= $(if $(DUMP),,etl/sample/commons.toml)
SOURCES ?= commons-p18$(if $(MEDIAINFO),$(COMMA)commons-depicts)$(if $(IMAGE),$(COMMA)commons-sizes)$(if $(MEDIAINFO),$(COMMA)commons-credits)$(if $(URLS),$(COMMA)url-list)
FIND_ARGS ?=
FETCH_ARGS ?= $(if $(DUMP),,--tries 2)
PACK_ARGS ?=
SHARDS  ?= $(IMAGES)/shards

COMMA     := ,
BIN       := $(VENV)/bin
NAME      := $(basename $(notdir $(RECIPE)))
IMAGES    := $(DATA)/images/$(NAME)
SAMPLE    := data/sample/dump.json.gz
PIP       := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SPARQLESS := $(BIN)/sparqless
# The sample's addresses are answered on loopback. While it has no others, nobody needs to know who asks.
ANSWERED  := $(if $(strip $(DUMP)),,$(BIN)/python -m etl.sample.pictures)
ASKING    := $(or $(CONTACT),$(if $(strip $(DUMP)$(FIND_ARGS)$(filter-out etl/sample/%,$(URLS))),,https://example.org/sample))

.DEFAULT_GOAL := help
.PHONY: help graph images experiment test lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@sed -n 's/^#   /  /p' Makefile

graph: $(VENV)/.base ## a dump (DUMP=…, else the sample) -> store -> graph data set, into DATA
ifeq ($(strip $(DUMP)),)
	@test ! -f $(SAMPLE) || cp $(SAMPLE) $(SAMPLE).before
	@$(SPARQLESS) sample --out $(SAMPLE)
endif
	@changed=$$(test ! -f $(SAMPLE).before || cmp -s $(SAMPLE) $(SAMPLE).before || echo --fresh); \
	  rm -f $(SAMPLE).before; \
	  $(SPARQLESS) etl "$(or $(strip $(DUMP)),$(SAMPLE))" --store "$(DATA)/store" --recipe "$(RECIPE)" \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(LANGUAGES),--languages $(LANGUAGES)) \
	  $(if $(PROPERTIES),--properties "$(PROPERTIES)") $(if $(CONTACT),--contact "$(CONTACT)") \
	  $(if $(strip $(DUMP)),,$$changed) $(ETL_ARGS)  # a sample of another version: the store anew
	@$(SPARQLESS) graph --store "$(DATA)/store" --recipe "$(RECIPE)" --out "$(DATA)/graph/$(NAME)"

images: graph ## graph data set -> where images of its entities are -> fetched -> shards, into DATA/images
	@$(SPARQLESS) images find --graph "$(DATA)/graph/$(NAME)" --store "$(DATA)/store" \
	  --source $(SOURCES) $(if $(MEDIAINFO),--mediainfo "$(MEDIAINFO)") $(if $(IMAGE),--image "$(IMAGE)") \
	  $(if $(findstring url-list,$(SOURCES)),$(foreach list,$(URLS),--urls "$(list)")) $(if $(COMMONS),--commons "$(COMMONS)") \
	  $(if $(WORKERS),--workers $(WORKERS)) $(FIND_ARGS) --out "$(IMAGES)"
	@$(SPARQLESS) images count --images "$(IMAGES)" --quiet --picture "$(IMAGES)/counts.svg"
	@echo "$(IMAGES)/counts.svg"
	@$(ANSWERED) $(SPARQLESS) images fetch --images "$(IMAGES)" $(if $(ASKING),--contact "$(ASKING)") \
	  $(if $(WORKERS),--workers $(WORKERS)) $(FETCH_ARGS)
	@$(SPARQLESS) images pack --images "$(IMAGES)" --out "$(SHARDS)" --graph "$(DATA)/graph/$(NAME)" --picture "$(IMAGES)/shards.png" \
	  $(if $(WORKERS),--workers $(WORKERS)) $(PACK_ARGS)
	@echo "$(IMAGES)/shards.png"

experiment: $(VENV)/.dev ## alt texts, the graph or both? Invented pictures, 27 small runs, a table, into data/experiment
	@$(MAKE) --no-print-directory graph DUMP= DATA=data/sample RECIPE=entitynet
	@$(BIN)/python -m training.experiment --graph data/sample/graph/entitynet --out data/experiment \
	  $(if $(WORKERS),--workers $(WORKERS))
	@echo data/experiment/results.svg

test: $(VENV)/.dev ## the whole test suite, on all cores
	$(BIN)/python -m pytest -n auto -rs

lint: $(VENV)/.dev ## formatter, linter and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## measure everything, into docs/performance.md; BENCH="etl kills" for some, ARGS for sizes
	$(BIN)/python -m benchmarks $(or $(BENCH),all) --write $(ARGS)

clean: ## remove what was built; data/ stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is made last, so a broken installation is begun again.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sparqless needs Python 3.11 or newer; name one: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing sparqless into $(VENV) …"
	@$(PIP) -e .
	@touch $@

# torch as constraints.txt pins it; who wants another build puts that into the environment first
$(VENV)/.train: $(VENV)/.base
	@echo "Installing what training needs …"
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing what tests and linters need …"
	@$(PIP) -e '.[dev,train]'
	@touch $@
