# Everything needs Go, GNU make, git and (for -race) a C compiler, and nothing else.

BIN := .cache/bin
PLUGIN := vault-plugin-secrets-cloudkeys
TOOL := go tool -modfile=scripts/tools/go.mod

# The server that the demo and the acceptance tests run: VAULT_BIN where it is
# set (a path or a name on PATH, of vault or bao), else the pinned Vault.
ifdef VAULT_BIN
SERVER := $(abspath $(shell command -v '$(VAULT_BIN)'))
ifeq ($(SERVER),)
$(error VAULT_BIN is '$(VAULT_BIN)', which is no executable file: correct or unset it)
endif
else
SERVER := $(CURDIR)/$(BIN)/vault
endif
WITH_SERVER := VAULT_BIN='$(SERVER)' CLOUDKEYS_PLUGIN='$(CURDIR)/$(BIN)/$(PLUGIN)'

# Packages whose tests run a server process.
ACCEPTANCE := ./plugin/acceptance/... ./scripts/devserver

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build-demo vault ## lease, use, renew and revoke a key on a real Vault
	@env $(WITH_SERVER) $(BIN)/demo

.PHONY: dev
dev: build-demo vault ## the same, but stay up and print the exports to paste
	@env $(WITH_SERVER) $(BIN)/demo -stay

# A binary and env, no go run and no shell: a signal to make then reaches the
# demo, which ends the server.
.PHONY: build-demo
build-demo: build
	go build -o $(BIN)/demo ./scripts/demo

.PHONY: sim
sim: ## run the simulated clouds alone
	go run ./scripts/cloudsim

.PHONY: build
build: ## build the plugin into .cache/bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/$(PLUGIN) ./plugin/cmd/$(PLUGIN)

.PHONY: vault
vault: $(if $(VAULT_BIN),,$(BIN)/vault) ## build the pinned Vault once (takes minutes; VAULT_BIN saves it)

.PHONY: tools
tools: vault ## the same as vault: the linters are built when they run

# The tag leaves out the cloud and database plugins, and most of the build time.
$(BIN)/vault: scripts/vault/go.mod scripts/vault/go.sum
	CGO_ENABLED=0 go -C scripts/vault build -tags minimal -trimpath -o '$(CURDIR)/$@' github.com/hashicorp/vault
	@touch $@

.PHONY: test
test: test-unit test-acceptance ## run all tests

.PHONY: test-unit
test-unit: ## run the tests that need no server
	go test -race $$(go list ./... | grep -v -e /plugin/acceptance -e /scripts/devserver)

.PHONY: test-acceptance
test-acceptance: build vault ## run the tests against a real server and the real plugin
	$(WITH_SERVER) go test -race -count=1 -timeout 20m $(ACCEPTANCE)

# The plugin's schedules of faults, every one: a failure prints how to run it alone. From
# within the directory, since go test shows the output of a package only there.
.PHONY: torture
torture: ## let every fault strike at every call of every operation
	CLOUDKEYS_SCHEDULES=all go -C plugin test -run '^TestSchedules$$' -count=1 -timeout 25m

.PHONY: race
race: ## run the plugin's tests, and what they rest on, three times under the race detector
	go test -race -count=3 -timeout 15m ./plugin ./shared/...

FUZZTIME := 1m

# One after the other: go test fuzzes one target at a time. Inputs that it keeps only for
# their coverage are not made smaller, which would take longer than finding them.
.PHONY: fuzz
fuzz: ## fuzz each target for FUZZTIME (1m)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z]+' . | sed 's/_test.go:func /_test.go /' | sort | while read -r file target; do \
		echo "$$target ($$(dirname "$$file"))"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x "$$(dirname "$$file")" || exit 1; \
	done

.PHONY: lint
lint: ## go vet, staticcheck, gofumpt
	go vet ./...
	$(TOOL) staticcheck ./...
	@unformatted=$$($(TOOL) gofumpt -l .) || exit 1; \
		test -z "$$unformatted" || { echo "not formatted (make fmt does it): $$unformatted"; exit 1; }

.PHONY: fmt
fmt: ## format every Go file
	$(TOOL) gofumpt -w .

.PHONY: clean
clean: ## remove what was built, Vault too
	rm -rf $(BIN)
