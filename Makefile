# make demo   train, export and check the digits network, from a bare Python
# make test   everything that must hold before a change goes in
# make quick  the quick checks and a part of the tests, for the work between two commits
# make docs   the pages as a site in site/
# make dist   sdist and wheel in dist/, checked
# make test-lite   files with mindspore="2.0" in MindSpore 2.0.0 and Lite 2.0.0; EVERY=20 takes a part

SUITABLE = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c '$(SUITABLE)' 2>/dev/null && echo $$name && break; done)
# setuptools warns of what every editable install is
INSTALL = PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet
EVERY ?= 1
# What make quick runs: a file or two of each room, and each 200th case in every runtime.
QUICK = tests/test_architecture.py tests/test_public_api.py tests/checkpoints/test_pytree.py \
	tests/checkpoints/formats tests/training/policy/test_policy.py tests/training/test_history.py \
	tests/training/test_arguments.py tests/exporting/test_names.py tests/exporting/test_calls.py \
	tests/showing/test_inspect.py tests/cli/test_options.py tests/ir/passes/test_rewrites.py \
	tests/ir/targets/mindir/test_check.py tests/ir/conformance/test_cases.py --each 200
PROTOS = checkpoint mind_ir anf_ir ge_ir

.PHONY: demo test quick test-lite test-matrix proto bench docs dist clean

demo: .venv/.demo
	.venv/bin/fnckpt demo

test: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/pytest -n 2 --dist loadfile --hypothesis-profile ci

quick: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/pytest -n 2 $(QUICK)

bench: .venv/.test
	for script in benchmarks/*.py; do \
		name=$$(basename $$script .py); [ $$name = needs ] && continue; \
		echo "== $$name"; .venv/bin/python -m benchmarks.$$name || exit 1; done

# The variable silences an advertisement of the theme for its successor.
docs: .venv/.test
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

dist: .venv/.test
	rm -rf dist
	.venv/bin/python -m build
	.venv/bin/twine check --strict dist/*

test-lite: .venv/.test .venv-lite/.installed
	.venv/bin/python -m tests.lite .venv-lite/bin/python --every $(EVERY) $(RECORD)

# Their wheels are for Python 3.7 at most. Lite looks for libnuma and goes on without.
.venv-lite/.installed:
	@found=; for python in python3.7 "$$(pyenv root 2>/dev/null)"/versions/3.7.*/bin/python; do \
		if "$$python" -c '' 2>/dev/null; then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then echo "test-lite needs a Python 3.7, none was found"; exit 1; fi; \
	"$$found" -m venv .venv-lite && \
	.venv-lite/bin/python -m pip install --quiet mindspore==2.0.0 mindspore-lite==2.0.0 && touch $@

# Both ends of the supported range of JAX, on each Python of this machine that can hold them.
test-matrix: matrix-3.11-oldest matrix-3.11-newest matrix-3.12-newest

.PHONY: matrix-3.11-oldest matrix-3.11-newest matrix-3.12-newest
matrix-3.11-oldest: ; $(call matrix,3.11,jax==0.8.0)
matrix-3.11-newest: ; $(call matrix,3.11,jax)
matrix-3.12-newest: ; $(call matrix,3.12,jax)

# $(call matrix,PYTHON VERSION,JAX REQUIREMENT); pyenv's interpreters need not be on PATH
define matrix
	@set -e; found=; \
	for python in python$(1) "$$(pyenv root 2>/dev/null)"/versions/$(1).*/bin/python; do \
		if "$$python" -c '' 2>/dev/null; then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then echo "$@: there is no Python $(1) here, left out"; exit 0; fi; \
	venv=.venv-$@; [ -x $$venv/bin/python ] || "$$found" -m venv $$venv; \
	$$venv/bin/python -m pip install --quiet --upgrade pip; \
	$$venv/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[test]' '$(2)'; \
	echo "$@: $$($$venv/bin/python --version), jax $$($$venv/bin/python -c 'import jax; print(jax.__version__)')"; \
	$$venv/bin/pytest -n 2 --dist loadfile
endef

.venv/.demo: pyproject.toml | .venv/bin/python
	$(INSTALL) -e '.[demo]'
	touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(INSTALL) -e '.[test]'
	touch $@

# Debian's Python may come without the pip that venv copies; then its own pip fills the venv.
.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "fnckpt needs Python 3.11 or newer, none was found; try make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv && \
		$(PYTHON) -m pip --python .venv/bin/python install --quiet pip; }
	.venv/bin/python -m pip install --quiet --upgrade pip

# An old protoc, so that the result runs on every protobuf from 4.25. Of its Python only the
# descriptor is kept: protoc's own code would register it in protobuf's default pool.
proto: .venv-proto/bin/python
	out=$$(mktemp -d); trap "rm -rf $$out" EXIT; \
	$< -m grpc_tools.protoc -I. --python_out=$$out --pyi_out=. $(PROTOS:%=fnckpt/proto/%.proto) && \
	for name in $(PROTOS); do { \
		printf '# Made from %s.proto by "make proto"; do not edit.\n' $$name; \
		printf 'from fnckpt.proto.pool import build\n\n'; \
		sed -n 's/^DESCRIPTOR = .*AddSerializedFile(\(.*\))$$/globals().update(build(\1))/p' \
			$$out/fnckpt/proto/$${name}_pb2.py; } > proto/$${name}_pb2.py || exit 1; done

.venv-proto/bin/python:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet grpcio-tools==1.62.3 'setuptools<80'

clean:
	rm -rf .venv* build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
