// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package cloudkeys is a secrets engine for HashiCorp Vault and OpenBao that leases
// short-lived access keys of cloud accounts. Every key carries a date in the cloud that
// follows its lease. OUTSCALE ends the key by it, so that it dies even if Vault does; on
// Huawei Cloud the engine deletes it.
package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// operationPrefix begins every operation id in Vault's OpenAPI description.
const operationPrefix = "cloud-keys"

// Build says what a binary was built from.
type Build struct {
	// Version is that of a release. Other builds have none: a server refuses to start a plugin whose own version differs from
	// the registered one.
	Version string
	// Source is what git calls the source of other builds, such as v0.1.0-7-g0123abc. Empty: nobody has said it.
	Source string
	// Commit is empty where nobody knows it.
	Commit string
}

// name is what people read.
func (b Build) name() string { return cmp.Or(b.Version, b.Source, "dev") }

// String tells version, commit and toolchain on one line.
func (b Build) String() string {
	commit, goVersion, _ := b.facts()
	return fmt.Sprintf("vault-plugin-secrets-cloudkeys %s (commit %s, %s)", b.name(), commit, goVersion)
}

// backend is the secrets engine of one mount.
type backend struct {
	*framework.Backend

	build Build
	open  opener

	accountsLock sync.Mutex // of these five; never held across a storage call
	accounts     *simplelru.LRU[string, *account]
	former       map[string]*account // those whose configuration was written since, until they are opened again
	frozen       map[string]bool     // accounts that no key is begun for; see freeze
	storing      map[string]int      // those whose configuration is being written, how many times
	changes      int                 // of any configuration

	locksLock sync.Mutex
	locks     map[string]*pathLock // see lock

	roles     *cache[roleEntry]
	policies  *cache[policyView]
	instances *cache[instance] // of one entry
	moving    atomic.Bool      // the storage may be another than it was, see onItsStorage

	mount   mountLimit
	longest longestKeys

	ledger *ledger.Ledger
	users  sync.Map // *userList by account, see usersKnown
	slots  *slotMemory

	engineUsers engineUsers

	refusals *refusals
	holds    sync.Map // accounts whose hold has changed since it was stored
	unstored sync.Map // those where storing it has failed

	triedNow      sync.Map // when check/ tried the engine key before its time, by account
	revokedBefore sync.Map // access keys whose revocation has failed
	compared      sync.Map // outcome of the last comparison, by account

	tidying tidying
	static  *staticTries
	metrics *metrics
}

// Factory returns a logical.Factory for a build.
func Factory(build Build) logical.Factory {
	shared := clouds.NewOpener()
	return factory(build, func(c provider.Config) (provider.Cloud, error) { return shared.Open(c) })
}

// factory also takes the way to open a cloud, which tests replace.
func factory(build Build, open opener) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		b := newBackend(build, open)
		if err := b.Setup(ctx, conf); err != nil {
			return nil, err
		}
		return b, nil
	}
}

func newBackend(build Build, open opener) *backend {
	b := &backend{
		build: build, open: open,
		accounts: newAccounts(), frozen: map[string]bool{}, former: map[string]*account{}, storing: map[string]int{},
		locks: map[string]*pathLock{},
		roles: newCache[roleEntry](), policies: newCache[policyView](), instances: newCache[instance](),
		ledger: ledger.New(), refusals: newRefusals(), metrics: newMetrics(),
		slots:  &slotMemory{users: map[owner]fullUser{}, foreign: map[owner]listed{}},
		static: &staticTries{roles: map[string]staticTry{}, seen: map[string][]staticDates{}},
	}
	b.Backend = &framework.Backend{
		BackendType:    logical.TypeLogical,
		Help:           strings.TrimSpace(backendHelp),
		RunningVersion: build.Version,
		PathsSpecial: &logical.Paths{
			// What belongs to this cluster's leases must not be replicated to others.
			LocalStorage: []string{ledger.Prefix, instancePrefix, policyPrefix, reconcilePrefix, tidyPrefix, holdPrefix},
			// A prefix is recognised by its slash; without it only that one key is wrapped.
			SealWrapStorage: []string{configPrefix, staticCredsPrefix},
		},
		Paths: checked(framework.PathAppend(
			b.pathConfig(),
			b.pathPolicy(),
			b.pathRotateRoot(),
			b.pathCheck(),
			b.pathRoles(),
			b.pathCreds(),
			b.pathStaticRoles(),
			b.pathStaticCreds(),
			b.pathKeys(),
			b.pathTidy(),
			b.pathInfo(),
			b.pathMetrics(),
		)),
		Secrets:      []*framework.Secret{b.secret(keylabel.KindLease), b.secret(keylabel.KindUser), b.sessionSecret()},
		PeriodicFunc: b.periodic,
		Invalidate:   b.invalidate,
		Clean:        b.clean,
	}
	return b
}

// Initialize implements logical.Backend.
func (b *backend) Initialize(ctx context.Context, req *logical.InitializationRequest) (err error) {
	defer b.recovered("initialization", &err)
	return b.Backend.Initialize(ctx, req)
}

// InvalidateKey implements logical.Backend. It has no error to return.
func (b *backend) InvalidateKey(ctx context.Context, key string) {
	var err error
	defer b.recovered("invalidation of "+key, &err)
	b.Backend.InvalidateKey(ctx, key)
}

// Cleanup implements logical.Backend. It has no error to return.
func (b *backend) Cleanup(ctx context.Context) {
	var err error
	defer b.recovered("clean-up", &err)
	b.Backend.Cleanup(ctx)
}

// HandleExistenceCheck implements logical.Backend. Input that does not fit its fields is left to
// the operation, which refuses it: the server answers an error of this check with a 500.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checkFound, exists bool, err error) {
	defer b.recovered("the existence check of "+req.Path, &err)
	if b.refuseTypes(req) != nil {
		return b.Route(req.Path).ExistenceCheck != nil, false, nil
	}
	return b.Backend.HandleExistenceCheck(ctx, req)
}

// invalidate forgets what another node has changed in storage. OpenBao waits for it on a standby, for two seconds: it takes no lock
// that is held across a call of storage or of a cloud.
func (b *backend) invalidate(_ context.Context, key string) {
	switch {
	case strings.HasPrefix(key, configPrefix):
		b.forgetAccount(strings.TrimPrefix(key, configPrefix))
	case strings.HasPrefix(key, rolePrefix):
		b.roles.drop(key)
	case strings.HasPrefix(key, policyPrefix):
		b.policies.drop(key)
	case strings.HasPrefix(key, ledger.Prefix):
		b.ledger.Forget(ledger.AccountOf(key))
	case key == instancePath:
		b.instances.drop(key)
	}
}

// clean ends the background work when the engine is unmounted or its process ends.
func (b *backend) clean(ctx context.Context) {
	b.static.end()
	b.tidying.cancel(ctx)
}

const backendHelp = `
The cloudkeys secrets engine leases short-lived access keys of cloud accounts.

Write an account's own access key to config/<account>, describe with
roles/<role> whose keys may be leased and for how long, and read creds/<role> to
get one. The key carries a date in the cloud that follows its lease: OUTSCALE ends
it then, even if Vault does not return. On Huawei Cloud it works until Vault deletes
it, at the end of its lease.
`

// facts are what else the build knows of itself.
func (b Build) facts() (commit, goVersion, sdk string) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/hashicorp/vault/sdk" {
				sdk = module.Version
			}
		}
	}
	return cmp.Or(b.Commit, "unknown"), runtime.Version(), sdk
}

// HandleRequest looks at the node before it does what the server calls by itself: periodic work and rollback, and the renewals
// and revocations of leases. A standby of OpenBao runs the rollback manager, too, on a storage that lags behind the leader's, or,
// while it is cut off from the leader and not from the cloud, stands still: it would take a key whose request has succeeded since
// for a leftover. Paths say for themselves what a standby forwards.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	defer b.recovered(string(req.Operation)+" of "+req.Path, &err)
	switch req.Operation {
	case logical.RollbackOperation:
		if !b.tendsLocalStorage() {
			b.ledger.Forget("") // what is known of the ledger is the active node's alone
			return nil, nil     // which does it
		}
	case logical.RenewOperation, logical.RevokeOperation:
		if !b.tendsLocalStorage() {
			return nil, logical.ErrReadOnly // on which OpenBao sends the request to the active node (of Vault Enterprise: docs/verified.md)
		}
	}
	if req.Operation != logical.RollbackOperation { // a tick looks by itself
		if err := b.onItsStorage(ctx, req.Storage); err != nil {
			return respond(err)
		}
	}
	if err := b.refuseTypes(req); err != nil {
		return respond(err)
	}
	defer b.storeHolds(ctx, req.Storage)
	resp, err = b.Backend.HandleRequest(ctx, req)
	return inLines(resp), err
}

// tendsLocalStorage tells whether this node looks after leases, ledger and policies: the active one of each cluster, performance
// secondaries included.
func (b *backend) tendsLocalStorage() bool {
	state := b.System().ReplicationState()
	return !state.HasState(consts.ReplicationPerformanceStandby | consts.ReplicationDRSecondary)
}

// mayHaveSecondaries tells whether this node is a performance primary of Vault Enterprise, whose secondaries sign with the same
// keys and have leases of their own. OpenBao's active node calls itself a performance primary as well, and has no secondaries
// (vault/ha.go, waitForLeadership): only Enterprise has a version whose metadata says so (ent, ent.hsm, ent.fips1403).
func (b *backend) mayHaveSecondaries(ctx context.Context) bool {
	system := b.System()
	if !system.ReplicationState().HasState(consts.ReplicationPerformancePrimary) || system.LocalMount() {
		return false
	}
	server, err := system.PluginEnv(ctx)
	return err != nil || strings.HasPrefix(server.GetVaultVersionMetadata(), "ent")
}
