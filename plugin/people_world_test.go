// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// world is an account of each cloud, two mounts of the engine that lease keys in both, and other people at work there: between any
// two calls of an operation somebody may do something that the engine is not lines of. See people_deeds_test.go for what.
type world struct {
	t       *testing.T
	sim     *cloudsim.Cloud
	tenants []*tenant
	mounts  []*mount
	lines   []string // what has happened, for whoever reads a failure

	storyLock sync.Mutex
	refused   map[string][]keyRefusal // by the key's id
	locks     []lock                  // that nobody has minded yet

	protocol  string // that an operation is of; empty: between operations
	acted     func(deed, protocol string)
	problems  []string
	keys      madeKeys        // as they were first seen
	planted   map[string]bool // keys of other people, whatever stands on them
	condition []*condition
	aim       place // of the deed that a call is acted with
	skew      time.Duration
	furthest  time.Duration // ahead, of the clocks that were set right or back
	clocks    time.Time     // when a clock was moved last
	nextTick  time.Time
	ticking   time.Duration // how often the server ticks
	serial    int           // of names
}

// tenant is a cloud account, whoever acts in it. The same hands that tests have (see vault_clouds_test.go) are other people's here.
type tenant struct {
	w          *world
	*testVault        // without a mount: its methods on cloud, keys and users
	name       string // of the account in each mount, and of its roles
	provider   string
}

// mount is one of the engine, with an account in each cloud.
type mount struct {
	*scene
	w        *world
	name     string
	given    map[string]cloudsim.Credentials // the engine keys by account that operators gave
	roles    map[string]string               // stateOf each when an operator has last written it
	trouble  map[string]time.Time            // until when nothing can be asked of an account
	causes   map[string][]span               // what kept the mount from it
	instance string
	saved    *snapshot
	behind   bool // a snapshot was restored, and the day's comparison has not been since
	restore  bool // when the process that runs has ended
	disable  bool // the same
	panics   uint64
	beside   sync.WaitGroup  // requests of others that are under way
	began    time.Time       // the request that is under way, or was last
	seen     map[string]int  // calls, when it began
	signed   map[string]bool // ids of all keys that it has used itself
	written  []time.Time     // when somebody has given it a key, or moved a clock: it tries at once

	lock   sync.Mutex     // of what follows: calls are made side by side
	calls  map[string]int // since a clock was moved, by account
	others time.Duration  // what others have done since the request began, at its calls
}

// condition is something that lasts.
type condition struct {
	name string
	end  time.Time
	stop func()
}

const (
	accountOutscale = "osc"
	accountHuawei   = "hw"
	never           = 100 * 365 * day

	dates = 5 // of answers that show the cloud's clock: the median of so many counts
)

func newWorld(t *testing.T) *world {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithRegion(testRegion))
	w := &world{
		t: t, sim: sim, planted: map[string]bool{}, acted: func(string, string) {},
		keys:    madeKeys{byID: map[string]*madeKey{}, gone: map[*tenant]time.Time{}},
		ticking: rollbackPeriod, refused: map[string][]keyRefusal{},
	}
	osc := &tenant{w, &testVault{t: t, sim: sim, account: sim.AddAccount(testAccountID)}, accountOutscale, clouds.Outscale}
	hw := &tenant{w, &testVault{t: t, sim: sim, domain: sim.AddDomain("acme")}, accountHuawei, clouds.Huawei}
	w.tenants = []*tenant{osc, hw}
	osc.account.AddGroup("/", "builders")
	hw.domain.AddGroup("builders")
	for i := range 2 {
		w.mounts = append(w.mounts, w.newMount(i))
	}
	sim.OnAnswer(w.countRefusal)
	w.nextTick = time.Now().Add(rollbackPeriod)
	return w
}

// newMount mounts the engine: at the first mount with the keys of the account's root user, and at the second with those of users.
func (w *world) newMount(i int) *mount {
	w.t.Helper()
	v := newTestVaultOn(w.t, w.sim, w.tenants[0].account)
	v.base = contract.New(w.t).Wrap(w.sim.Transport())
	m := &mount{
		scene: &scene{testVault: v, cloud: faultyOutscale(), second: faultyHuawei(), saboteur: newSaboteur(nil), hangUp: func() {}},
		w:     w, name: fmt.Sprintf("m%d", i+1), given: map[string]cloudsim.Credentials{}, roles: map[string]string{},
		trouble: map[string]time.Time{},
		causes:  map[string][]span{},
		signed:  map[string]bool{}, calls: map[string]int{accountOutscale: dates, accountHuawei: dates},
	}
	v.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: story{w}, DisableTime: true, Name: m.name})
	huawei := w.sim.Transport()
	outscale := v.base
	v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
		to, through := accountOutscale, outscale
		if strings.HasPrefix(req.URL.Path, "/v3") {
			to, through = accountHuawei, huawei
		}
		resp, err := through.RoundTrip(req)
		// Each account has a clock of its own, and the spare one does not move this one's.
		// A gateway's page tells no time of the cloud's.
		if id := m.engineKey(m.tenantOf(to)); err == nil && id != "" && strings.Contains(req.Header.Get("Authorization"), id) && !isPage(resp) {
			m.lock.Lock()
			m.calls[to]++
			m.lock.Unlock()
		}
		return resp, err
	})
	m.live, m.deed = v.base, func(name, call string) string { return w.act(name, call, m) }
	engine := m.user("vault")
	m.tenantOf(accountHuawei).domain.AddUser(engine, cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
	m.given[accountHuawei] = m.tenantOf(accountHuawei).domain.AddKey(cloudsim.IAMKeySpec{User: engine})
	m.given[accountOutscale] = m.tenantOf(accountOutscale).account.RootKey()
	if i > 0 {
		m.tenantOf(accountOutscale).account.AddUser(engine, "api:*")
		m.given[accountOutscale] = m.tenantOf(accountOutscale).account.AddKey(cloudsim.KeySpec{User: engine})
	}
	m.start()
	for _, t := range w.tenants {
		for _, user := range []string{"app", "pool", "calm", "db", "quiet"} {
			t.addUser(m.user(user))
		}
		m.configureAccount(t)
	}
	m.instance = m.read("info")["instance_id"].(string)
	m.takeSnapshot()
	return m
}

// user is a name that a mount has for itself.
func (m *mount) user(name string) string { return name + "-" + m.name }

func (m *mount) tenantOf(account string) *tenant {
	return m.w.tenants[slices.IndexFunc(m.w.tenants, func(t *tenant) bool { return t.name == account })]
}

// fieldsOf are those with which an operator writes the configuration.
func (m *mount) fieldsOf(t *tenant) []string { return m.fieldsFor(t, t.name, m.user("vault")) }

// fieldsFor are those of one of the mount's accounts. An operator gives the key that he has given before, or a new one of the user where
// that does not live: twice with a dead one are the four refusals that lock the cloud account. Without a slot for a new one, he writes the
// other fields alone.
func (m *mount) fieldsFor(t *tenant, account, user string) []string {
	fields := []string{"provider=" + t.provider}
	key, there := t.key(m.given[account].AccessKey)
	living := there && t.live(key)
	if !living && t.keysOf(user) < t.quota() {
		m.given[account], living = m.newKeyOf(t, user), true
	}
	if given := m.given[account]; living {
		m.mayTry(given.AccessKey)
		fields = append(fields, "access_key="+given.AccessKey, "secret_key="+given.SecretKey)
	}
	if t.domain != nil {
		return append(fields, "region=ap-southeast-1")
	}
	return append(fields, "region="+testRegion, "endpoint="+testEndpoint, "allow_root_identity=true")
}

// mayTry notes that a mount tries a key as soon as it is given it.
func (m *mount) mayTry(id string) {
	m.w.storyLock.Lock()
	defer m.w.storyLock.Unlock()
	m.signed[id] = true
	m.written = append(m.written, time.Now())
}

// roleFields are all that operators write beside configurations, by path.
func (m *mount) roleFields(t *tenant) [][]string {
	account, ttl := "account="+t.name, "ttl="+sceneTTL.String()
	roles := [][]string{
		{"roles/" + t.name + "-app", account, "user_names=" + m.user("app") + "," + m.user("pool"), ttl, "max_ttl=1h"},
		{"roles/" + t.name + "-calm", account, "user_names=" + m.user("calm"), ttl, "max_ttl=1h"},
		{"roles/" + t.name + "-job", account, "credential_type=iam_user", ttl, "max_ttl=1h", "groups=builders"},
		{"static-roles/" + t.name + "-db", account, "user_name=" + m.user("db"), "rotation_period=24h", "rotation_grace_period=5m"},
		{"static-roles/" + t.name + "-quiet", account, "user_name=" + m.user("quiet"), "rotation_period=1h", "rotation_grace_period=5m"},
	}
	if t.domain == nil {
		roles = append(roles, []string{"roles/" + t.name + "-own", account, "own_identity=true", ttl, "max_ttl=1h"})
	}
	return roles
}

// configureAccount writes all that a mount has of an account.
func (m *mount) configureAccount(t *tenant) {
	m.t.Helper()
	m.write("config/"+t.name, m.fieldsOf(t)...)
	for _, role := range m.roleFields(t) {
		m.write(role[0], role[1:]...)
		m.roles[role[0]] = m.stateOf(t, role)
	}
}

// stateOf is what an operator looks at before he writes a role anew: what is stored of it, whether its users are those of the cloud, and
// whether a static role's key works; empty: he writes it in any case. Each write lists the users of an account, and most deeds leave
// all roles as they were.
func (m *mount) stateOf(t *tenant, role []string) string {
	ctx, s := context.Background(), m.storage.Storage
	stored, err := s.Get(ctx, role[0])
	if err != nil || stored == nil {
		return ""
	}
	state := string(stored.Value)
	for _, field := range role[1:] {
		if name, users, _ := strings.Cut(field, "="); strings.HasPrefix(name, "user_name") {
			for user := range strings.SplitSeq(users, ",") {
				if id, _ := t.find(user); id == "" || !strings.Contains(state, id) {
					return "" // written while nobody could be listed, or for a user who has gone
				}
			}
		}
	}
	if name, static := strings.CutPrefix(role[0], staticRolePrefix); static {
		creds, err := load[staticCreds](ctx, s, staticCredsPrefix+name)
		if err != nil || creds == nil {
			return ""
		}
		key, there := t.key(creds.AccessKey)
		state += fmt.Sprint("\n", there && t.live(key))
	}
	return state
}

// tell keeps a line of the story.
func (w *world) tell(format string, values ...any) {
	w.storyLock.Lock()
	defer w.storyLock.Unlock()
	w.lines = append(w.lines, time.Now().UTC().Format("02 15:04:05.0 ")+fmt.Sprintf(format, values...))
}

// story has what the engine logs lines, too.
type story struct{ *world }

// Write implements io.Writer.
func (s story) Write(line []byte) (int, error) {
	s.storyLock.Lock()
	defer s.storyLock.Unlock()
	s.lines = append(s.lines, "      "+strings.TrimSpace(string(line)))
	return len(line), nil
}

// problem notes that an invariant does not hold.
func (w *world) problem(format string, values ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, values...))
}

func (w *world) failed() bool { return len(w.problems) > 0 }

// advance lets time pass: leases that end are revoked, the server ticks, what lasts ends, and the invariants hold after each step.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end) && !w.failed(); {
		next := end
		if w.nextTick.Before(next) {
			next = w.nextTick
		}
		for _, c := range w.condition {
			if c.end.Before(next) {
				next = c.end
			}
		}
		for _, m := range w.mounts {
			for _, l := range m.leases {
				if due := l.due(); !l.Irrevocable && due.Before(next) {
					next = due
				}
			}
		}
		<-time.After(time.Until(next))
		w.endConditions()
		for _, m := range w.mounts {
			m.expireEnded()
		}
		if !time.Now().Before(w.nextTick) {
			w.tick()
			w.nextTick = time.Now().Add(w.ticking)
			w.check("after a tick")
		}
	}
}

func (w *world) tick() {
	for _, m := range w.mounts {
		m.saboteur.repair()
		m.asked("a tick", func(ctx context.Context) {
			if err := m.tickIn(ctx); err != nil {
				w.tell("a tick of %s: %.300s", m.name, err)
			}
		})
	}
}

// lasts begins what ends by itself.
func (w *world) lasts(name string, d time.Duration, stop func()) {
	w.condition = append(w.condition, &condition{name, time.Now().Add(d), stop})
}

func (w *world) endConditions() {
	now := time.Now()
	w.condition = slices.DeleteFunc(w.condition, func(c *condition) bool {
		over := !now.Before(c.end)
		if over {
			w.tell("it ends: %s", c.name)
			c.stop()
			if now.After(c.end.Add(time.Second)) { // an operation took its time, and it lasted as long
				w.troubledAll(c.end, afterHold)
			}
		}
		return over
	})
}

// troubledAll notes that what kept all from the cloud has lasted on, until now.
func (w *world) troubledAll(since time.Time, recovery time.Duration) {
	for _, m := range w.mounts {
		for _, t := range w.tenants {
			m.troubleFor(t, 0, recovery)
			m.causes[t.name] = append(m.causes[t.name], span{since, time.Now()})
		}
	}
}

// asked runs a request in the present process, and holds that it ends in time. Where the process dies, a new one takes over.
func (m *mount) asked(what string, run func(ctx context.Context)) {
	m.t.Helper()
	m.began = time.Now()
	m.lock.Lock()
	m.seen, m.others = maps.Clone(m.calls), 0
	m.lock.Unlock()
	var took time.Duration
	process := m.process
	m.act(func(ctx context.Context, _ *scene) {
		run(ctx)
		m.lock.Lock()
		took = time.Since(m.began) - m.others
		m.lock.Unlock()
		m.beside.Wait() // requests of others, which have their own time
	})
	if process.dead.Load() { // what works beside the request stores as soon as it is through with an account
		process.forgets(earlier(m.began, time.Now().Add(-tickBudget-rollbackBudget)))
	}
	// A node that has stepped down has made way for another
	m.system.become(0)
	if took > longestRequest && !strings.HasPrefix(what, "tidy") { // which answers at once, and goes on
		m.w.problem("7: %s of %s took %s", what, m.name, took)
	}
	synctest.Wait() // the engine works on behind a client that has gone
	switch {
	case m.disable:
		m.restore = false
		m.disableMount()
	case m.restore:
		m.restoreSnapshot()
	}
	m.countPanics()
	m.w.endConditions()
}

// longestRequest is past every budget: Vault gives a revoke 90 s.
const longestRequest = 100 * time.Second

// expireEnded revokes the leases that have ended, with Vault's six attempts.
func (m *mount) expireEnded() {
	m.t.Helper()
	for _, l := range slices.Clone(m.leases) {
		if l.Irrevocable || time.Now().Before(l.due()) {
			continue
		}
		m.revokeLease(l)
		if !slices.Contains(m.leases, l) {
			continue
		}
		l.retryAt = time.Now().Add(retryBase << l.attempts)
		if l.attempts++; l.attempts == revokeAttempts {
			l.Irrevocable = true
			m.w.tell("%s: the server gives up the lease of %s", m.name, l.AccessKey())
		}
	}
}

// snapshot is what a backup of the server has: all storage, the leases of this mount's among it.
type snapshot struct {
	storage *logical.InmemStorage
	leases  []testLease
}

func copyStorage(from logical.Storage) (*logical.InmemStorage, error) {
	ctx, to := context.Background(), &logical.InmemStorage{}
	paths, err := logical.CollectKeys(ctx, from)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		entry, err := from.Get(ctx, path)
		if err != nil || entry == nil {
			return nil, fmt.Errorf("%s: %v, %w", path, entry, err)
		}
		if err := to.Put(ctx, entry); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// isPage tells a gateway's answer from the cloud's, and leaves it to be read.
func isPage(resp *http.Response) bool {
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && bytes.HasPrefix(body, []byte("<"))
}
