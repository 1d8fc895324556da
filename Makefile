# make demo | app | test | lint | soak | bench | clean      PYTHON=python3.7 selects the TensorFlow 1.15 line
PYTHON  ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV    := .venv/py$(VERSION)
PIP     := $(VENV)/bin/python -m pip --disable-pip-version-check
RUN     := $(VENV)/bin/python
PIN     := $(if $(filter 3.7,$(VERSION)),-c constraints-py37.txt)
JOBS    ?= 2

# $(call phase,name,command): runs the command and prints how long it took
phase = @start=$$(date +%s); $(2) && echo "== $(1): $$(( $$(date +%s) - start )) s"

.PHONY: demo app test soak lint bench clean python

demo: $(VENV)/.run
	@for factor in all expression lighting pose; do \
	  $(RUN) generate_images.py --model demo/demo128.pkl --factor $$factor --subject 4 --variation 6 \
	    --outdir demo_images/$$factor --grid --overwrite || exit 1; done
	@echo
	@echo "Look at demo_images/{all,expression,lighting,pose}/grid.png: each row is one person who does not exist. In"
	@echo "expression/, lighting/ and pose/ only that one thing is asked to change within a row; in all/ the three change"
	@echo "together. Single pictures SSS_VV.png (subject, variation) lie beside them."

app: $(VENV)/.app
	$(RUN) app.py

test: $(VENV)/.test
	$(call phase,tests on Python $(VERSION),$(RUN) -m pytest -m "not slow" -n $(JOBS) --dist loadfile)

soak: $(VENV)/.test
	$(call phase,soak on Python $(VERSION),$(RUN) -m pytest -m slow)

lint: $(VENV)/.test
	$(RUN) -m ruff check .

bench: $(VENV)/.run
	$(RUN) benchmarks/all.py

clean:
	rm -rf $(VENV)

python:
	@case "$(VERSION)" in \
	  "") echo "$(PYTHON) does not run: install Python 3.10 or newer (TensorFlow 2.x) or Python 3.7 (TensorFlow 1.15) and name it, e.g. make test PYTHON=python3.11"; exit 1;; \
	  3.7|3.1[0-9]) ;; \
	  *) echo "$(PYTHON) is Python $(VERSION): needed is Python 3.10 or newer (TensorFlow 2.x) or Python 3.7 (TensorFlow 1.15); name one, e.g. make test PYTHON=python3.11"; exit 1;; \
	esac

$(VENV)/.run: requirements.txt constraints-py37.txt | python
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)"; exit 1; }
	$(call phase,install packages,$(PIP) install -q -r requirements.txt $(PIN))
	@touch $@

$(VENV)/.app: $(VENV)/.run requirements-app.txt
	@test "$(VERSION)" != 3.7 || { echo "the page needs Python 3.10 or newer: make app PYTHON=python3.11"; exit 1; }
	$(call phase,install packages of the page,$(PIP) install -q -r requirements-app.txt)
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements-test.txt
	$(call phase,install test packages,$(PIP) install -q -r requirements-test.txt $(PIN))
	@touch $@
