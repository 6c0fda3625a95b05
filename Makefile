# Everything needs Go, GNU make, git and (for -race) a C compiler; the tests of integrations need Python 3.10 with venv, too.

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

# The plugin with a storage that fails on order. It is for tests alone.
FAULTY := faultyplugin

# Packages whose tests run a server process.
ACCEPTANCE := ./plugin/acceptance/... ./scripts/devserver ./scripts/docrun

# The clouds' own tools, which the tests of integrations run with leased keys.
CLIENTS := .cache/clients
HUAWEI_SDK := plugin/integrations/huaweisdk

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
test: test-unit test-acceptance test-integrations ## run all tests

.PHONY: test-unit
test-unit: ## run the tests that need no server
	go test -race $$(go list ./... | grep -v -e /plugin/acceptance -e /plugin/integrations -e /scripts/devserver -e /scripts/docrun)

.PHONY: test-acceptance
test-acceptance: build build-faulty vault ## run the tests against a real server and the real plugin
	$(WITH_SERVER) CLOUDKEYS_FAULTY_PLUGIN='$(CURDIR)/$(BIN)/$(FAULTY)' go test -race -count=1 -timeout 20m $(ACCEPTANCE)

.PHONY: test-integrations
test-integrations: build vault $(CLIENTS)/installed $(BIN)/huaweisdk ## run Vault Agent and the clouds' tools and SDKs with leased keys
	$(WITH_SERVER) CLOUDKEYS_CLIENTS='$(CURDIR)/$(CLIENTS)/bin' CLOUDKEYS_HUAWEI_SDK='$(CURDIR)/$(BIN)/huaweisdk' \
		go test -count=1 -parallel 8 -timeout 5m -skip '^TestTerraform' ./plugin/integrations

# Terraform itself must be there, on PATH or as TERRAFORM_BIN: building it as well would take too long. The provider takes minutes.
.PHONY: test-terraform
test-terraform: build vault $(BIN)/terraform-provider-vault ## apply docs/examples/terraform (needs terraform; builds its provider)
	$(WITH_SERVER) TERRAFORM_BIN='$(or $(TERRAFORM_BIN),terraform)' \
		CLOUDKEYS_TERRAFORM_PROVIDER='$(CURDIR)/$(BIN)/terraform-provider-vault' \
		go test -count=1 -timeout 5m -run '^TestTerraform' ./plugin/integrations

$(BIN)/terraform-provider-vault: scripts/terraform-provider-vault/go.mod scripts/terraform-provider-vault/go.sum
	CGO_ENABLED=0 go -C scripts/terraform-provider-vault build -trimpath -o '$(CURDIR)/$@' github.com/terraform-providers/terraform-provider-vault
	@touch $@

# requirements.in names the tools; pip-compile --generate-hashes --allow-unsafe makes requirements.txt of it.
$(CLIENTS)/installed: plugin/integrations/requirements.txt
	python3 -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(BIN)/huaweisdk: $(HUAWEI_SDK)/go.mod $(HUAWEI_SDK)/go.sum $(HUAWEI_SDK)/main.go
	CGO_ENABLED=0 go -C $(HUAWEI_SDK) build -trimpath -o '$(CURDIR)/$@' .

.PHONY: build-faulty
build-faulty:
	CGO_ENABLED=0 go build -o $(BIN)/$(FAULTY) ./plugin/acceptance/faultyplugin

.PHONY: docs
docs: ## write docs/reference.md from the engine itself
	go run ./scripts/reference > docs/reference.md.new && mv docs/reference.md.new docs/reference.md

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
	rm -rf $(BIN) $(CLIENTS)
