SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.DELETE_ON_ERROR:

# pg_query_go is C.
export CGO_ENABLED := 1

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -X main.version=$(VERSION)
FUZZTIME  ?= 30s
TESTFLAGS ?=

# Tools run from their modules at these versions; nothing is installed.
GOFUMPT     := $(GO) run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Tests write "figure NAME VALUE" lines to this file; testsum prints the newest of
# each name.
FIGURES = export QVPGW_FIGURES=$$(mktemp); trap 'rm -f "$$QVPGW_FIGURES"' EXIT
TESTSUM = $(GO) run ./internal/testsum

.PHONY: help build static demo test lint fuzz fuzz-preauth fuzz-aggregates torture knn-truth rolling migrations-kill conformance streaming ageing bench bench-aggregates bench-knn bench-triggers drivers docker-config clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/qvpgw
	@$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/qvpgw ./cmd/qvpgw

static: ## bin/qvpgw without shared libraries, as in the container image
	@$(GO) build -trimpath -tags netgo,osusergo,timetzdata \
		-ldflags '-s -w -linkmode external -extldflags "-static" $(LDFLAGS)' -o bin/qvpgw ./cmd/qvpgw

demo: build ## the gateway with a database, real data and a tour; ONCE=1 ends after the tour
	@exec ./bin/qvpgw demo $(if $(ONCE),--once)

# Under -race a sync.Pool forgets at random: allocations are counted without it.
test: ## all tests with -race; TESTFLAGS=-count=1 runs unchanged ones too
	@$(FIGURES)
	$(GO) test -json $(TESTFLAGS) -run 'Allocat|TakesNoMemory' ./internal/gateway ./internal/router | $(TESTSUM)
	$(GO) test -race -timeout 20m -json $(TESTFLAGS) ./... | $(TESTSUM)

lint: ## gofumpt, go vet, staticcheck, nothing over 600 lines or left over
	@unformatted=$$($(GOFUMPT) -l .)
	if [ -n "$$unformatted" ]; then printf 'not formatted by gofumpt:\n%s\n' "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...
	(cd drivers && $(GO) vet ./...)
	long=$$(git ls-files -z '*.go' | xargs -0 wc -l | awk '$$2 != "total" && $$1 > 600')
	if [ -n "$$long" ]; then printf 'longer than 600 lines:\n%s\n' "$$long"; exit 1; fi
	if git grep -nE '\b(TODO|FIXME)\b' -- '*.go' '*.sql' '*.js' '*.mjs'; then echo 'left over'; exit 1; fi

# fuzz FUNC DIRECTORY: one target for FUZZTIME. Go may report the end of the time as a
# failure, "context deadline exceeded", when an input runs just then; it is none.
define FUZZ
fuzz() {
	echo "== $$2 $$1"
	local said; said=$$(mktemp)
	if $(GO) test -run '^$$' -fuzz "^$$1\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$2" 2>&1 | tee "$$said"; then rm "$$said"; return; fi
	if grep -q 'context deadline exceeded' "$$said" && ! grep -qE 'Failing input|panic:|_test\.go:' "$$said"; then
		echo 'the time was over while an input ran: no failure'; rm "$$said"; return
	fi
	rm "$$said"; return 1
}
endef

fuzz: ## every fuzz target for FUZZTIME (30s)
	@$(FUZZ)
	git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | while IFS=: read -r file name; do
		fuzz "$${name#func }" "$$(dirname "$$file")"
	done

fuzz-preauth: ## what a client can send before it is logged in, and the framing, FUZZTIME each
	@$(FUZZ)
	fuzz FuzzPreauth internal/gateway
	fuzz FuzzStream internal/wire

fuzz-aggregates: ## N random questions (20000) between random writes: aggregates answer as the rows do; SEED=s begins at world s
	@$(FIGURES)
	export QVPGW_FUZZ_AGGREGATES=$(or $(N),20000) QVPGW_FUZZ_SEED=$(or $(SEED),1)
	$(GO) test -count=1 -timeout 240m -json -run TestFuzzAggregates ./internal/router | $(TESTSUM) -v

torture: ## 64 clients, cancels, hang-ups and killed servers: no row may reach another client
	@$(FIGURES)
	export QVPGW_TORTURE_STATEMENTS=$${QVPGW_TORTURE_STATEMENTS:-500000}
	$(GO) test -count=1 -timeout 60m -json -run 'TestTorture|TestConnectionsThatDoNotLogIn' ./internal/gateway | $(TESTSUM) -v

knn-truth: ## half a million reads from memory beside writers of all kinds, none older than its question; N=n for others
	@$(FIGURES)
	export QVPGW_KNN_READS=$(or $(N),500000) QVPGW_KNN_CASES=$${QVPGW_KNN_CASES:-20000}
	$(GO) test -count=1 -timeout 60m -json -run 'TestKNN' ./internal/gateway ./internal/router ./internal/vector | $(TESTSUM) -v

rolling: ## ten restarts under 64 clients: nothing refused, nothing lost
	@$(FIGURES)
	export QVPGW_ROLLING=$${QVPGW_ROLLING:-10}
	$(GO) test -count=1 -timeout 10m -json -run TestRollingRestart ./cmd/qvpgw | $(TESTSUM) -v

migrations-kill: ## fifty migrations killed at random steps: what is advised must lead on, with all rows
	@$(FIGURES)
	export QVPGW_KILLS=$${QVPGW_KILLS:-50}
	$(GO) test -count=1 -timeout 60m -json -run TestAKilledMigrationIsMended ./cmd/qvpgw | $(TESTSUM) -v

conformance: ## PostgreSQL's regression suite: direct, in session mode, in transaction mode
	@$(FIGURES)
	export QVPGW_CONFORMANCE=$${QVPGW_CONFORMANCE:-full}
	$(GO) test -count=1 -timeout 60m -json -run TestConformance ./cmd/qvpgw | $(TESTSUM) -v

streaming: ## a value of 300 MB to the server and back: the gateway holds none of it
	@$(FIGURES)
	export QVPGW_STREAM_MB=$${QVPGW_STREAM_MB:-300}
	$(GO) test -count=1 -timeout 20m -json -run TestValuesLongerThanMemoryPass ./cmd/qvpgw | $(TESTSUM) -v

ageing: ## compression, retention and refreshes over bars of yours: BARS=/path/bars.csv.gz
	@$(FIGURES)
	export QVPGW_BARS=$(abspath $(BARS))
	$(GO) test -count=1 -timeout 30m -json -run TestPoliciesDoWhatTheySay ./internal/schema | $(TESTSUM) -v

bench: ## direct, PgBouncer and qvpgw side by side, 11 minutes; QVPGW_BENCH_ONLY=tls,idle for parts
	@$(FIGURES)
	export QVPGW_BENCH=$${QVPGW_BENCH:-full}
	$(GO) test -count=1 -timeout 60m -json -run TestBench ./cmd/qvpgw | $(TESTSUM) -v

bench-aggregates: ## a year of bars and the golden statements, routed, unrouted and direct, two minutes; BARS=/path/bars.csv.gz for yours
	@$(FIGURES)
	export QVPGW_BENCH_AGGREGATES=full QVPGW_BARS=$(abspath $(BARS))
	$(GO) test -count=1 -timeout 60m -json -run 'TestBenchAggregates|TestLiveAnswers' ./cmd/qvpgw | $(TESTSUM) -v

bench-triggers: ## what the change log's triggers cost INSERT, COPY and UPDATE, two minutes
	@$(FIGURES)
	export QVPGW_BENCH_TRIGGERS=full
	$(GO) test -count=1 -timeout 20m -json -run TestWhatTheChangeLogsTriggersCost ./internal/schema | $(TESTSUM) -v

bench-knn: ## neighbours of 100,000 windows from memory, direct and without, and a million questions, twenty minutes; BARS=/path/bars.csv.gz for yours
	@$(FIGURES)
	export QVPGW_BENCH_KNN=full QVPGW_BARS=$(abspath $(BARS))
	$(GO) test -count=1 -timeout 40m -json -run TestBenchKNN ./cmd/qvpgw | $(TESTSUM) -v

drivers: ## programs of 14 drivers, direct and through the gateway: all they see must be the same
	@$(FIGURES)
	export QVPGW_DRIVERS=full
	$(GO) test -count=1 -timeout 30m -json -run TestDrivers ./cmd/qvpgw | $(TESTSUM) -v

docker-config: ## checks docker-compose.yml
	@if docker compose version >/dev/null 2>&1; then POSTGRES_PASSWORD=check docker compose config --quiet; fi
	$(GO) test -count=1 -run 'TestCompose|TestDockerfile' ./internal/config

clean: ## removes what was built here; the backends' cache stays
	@rm -rf bin
