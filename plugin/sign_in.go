// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// How the engine signs in is key and secret, and the address that they are used at. A secret goes to
// addresses that stand in the same write alone: else whoever may write one field of an account would
// have the next login, or calls that are signed with the stored key, sent to a machine of his.

// stands tells whether a write gives a field a value.
func stands(data *framework.FieldData, field string) bool {
	text, _ := data.Get(field).(string)
	_, given := data.Raw[field]
	return given && text != ""
}

// longestCredential is far above those of all clouds. Each error is searched for them, and in a text that repeats itself that takes
// minutes where they have hundreds of kilobytes.
const longestCredential = 512

// checkCredentials refuses white space that no key or password has: a file that is read with @ often
// ends in a line break, and every call with it is refused.
func checkCredentials(data *framework.FieldData) error {
	for _, field := range []string{"access_key", "secret_key", "login", "password"} {
		text, _ := data.Get(field).(string)
		if len(text) > longestCredential {
			return userError("%s has %d characters, and %d is the most", field, len(text), longestCredential)
		}
		inside := strings.HasSuffix(field, "_key") && strings.ContainsFunc(text, unicode.IsSpace) // a password may hold some
		if inside || strings.TrimSpace(text) != text || strings.ContainsAny(text, "\r\n") {
			return userError("%s %s: write it without. A file that is read with @ often ends in a line break", field, whereSpace(text))
		}
	}
	return nil
}

func whereSpace(text string) string {
	switch {
	case strings.HasSuffix(text, "\n"):
		return "ends in a line break"
	case strings.TrimSpace(text) != text:
		return "begins or ends with white space"
	default:
		return "holds white space"
	}
}

// movedFrom names the fields by which a configuration's calls would go elsewhere than before, or be
// believed from elsewhere.
func (c *accountConfig) movedFrom(before *accountConfig) (fields []string) {
	here, _ := c.endpoint() // validate has refused what has none
	there, _ := before.endpoint()
	if c.Region != before.Region {
		fields = append(fields, "region")
	}
	if here != there && len(fields) == 0 || here != there && c.Endpoint != before.Endpoint {
		fields = append(fields, "endpoint")
	}
	if c.signature() != before.signature() {
		fields = append(fields, "signature")
	}
	if !clouds.SamePEM(c.CACert, before.CACert) {
		fields = append(fields, "ca_cert")
	}
	return fields
}

// sameCredentials tells whether the engine signs in as before, but for its client certificate.
func (c *accountConfig) sameCredentials(before *accountConfig) bool {
	return c.AccessKey == before.AccessKey && c.SecretKey == before.SecretKey && c.DomainID == before.DomainID && len(c.movedFrom(before)) == 0
}

// sameCertificate tells whether it presents the same client certificate.
func (c *accountConfig) sameCertificate(before *accountConfig) bool {
	return clouds.SamePEM(c.ClientCert, before.ClientCert) && clouds.SamePEM(c.ClientKey, before.ClientKey)
}

// refuseStoredSecret keeps stored secrets from new addresses, and an account from half a key.
func (c *accountConfig) refuseStoredSecret(before *accountConfig, data *framework.FieldData) error {
	if before == nil || c.signIn != nil {
		return nil
	}
	moved := strings.Join(c.movedFrom(before), ", ")
	switch {
	case c.AccessKey != before.AccessKey && !stands(data, "secret_key"):
		return userError("access_key is another one, and its secret_key is not in the same write: give both%s", c.orSignIn())
	case moved == "":
		return nil
	case !stands(data, "access_key") || !stands(data, "secret_key"):
		return userError("%s would have the stored key used at an address, or under a certificate, that the write of that key did not name: "+
			"give access_key and secret_key in the same write%s", moved, c.orSignIn())
	case c.AccessKey != before.AccessKey && before.wasReplaced(c.AccessKey):
		return userError("access key %s was replaced by rotation and is not used again, and without a key that is, %s cannot be changed: "+
			"give another access_key and its secret_key in the same write%s", c.AccessKey, moved, c.orSignIn())
	}
	return nil
}

// placeSignIn has login and password go where their own write says: to its endpoint, or else to the
// public one of its region; never to a stored one.
func (c *accountConfig) placeSignIn(before *accountConfig, data *framework.FieldData) (warnings []string, err error) {
	if c.signIn == nil || before == nil || stands(data, "endpoint") {
		return nil, nil
	}
	if !stands(data, "region") {
		return nil, userError("login and password go to an address of the same write alone: give the account's endpoint (%q), or its "+
			"region (%q) for the public one, with them", before.Endpoint, before.Region)
	}
	if c.Endpoint == "" {
		return nil, nil
	}
	c.Endpoint = ""
	return []string{"the account's endpoint was " + before.Endpoint + ", which was not in this write: login and password went to the " +
		"public endpoint of the region, and the account is called there from now on"}, nil
}

const (
	// refusalPause is how long the same key and secret are refused without a call.
	refusalPause = time.Minute
	// refusalWindow is within which two refusals of a key id are enough, whatever its secret: the
	// fourth in a row locks an OUTSCALE account for all its users.
	refusalWindow = 10 * time.Minute
	mostRefusals  = 2
	// maxRefused bounds the keys that are remembered. Their ids come from requests.
	maxRefused = 1000
)

// refusals is what the cloud has said of keys and logins that were written, under whichever account's
// name. Each write opens a client that knows nothing of the one before.
type refusals struct {
	mu    sync.Mutex
	salt  []byte
	known *simplelru.LRU[signer, []pastRefusal]
}

// signer is a key's id, or a login, at an endpoint.
type signer struct{ endpoint, id string }

type pastRefusal struct {
	secret string // its hash, with how it signs: a right secret after a wrong one is not answered from memory
	at     time.Time
}

func newRefusals() *refusals {
	salt := make([]byte, sha256.Size)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	known, _ := simplelru.NewLRU[signer, []pastRefusal](maxRefused, nil)
	return &refusals{salt: salt, known: known}
}

// signer is who signs in by a configuration, with the hash of the secret.
func (r *refusals) signer(c *accountConfig) (who signer, secret string) {
	endpoint, _ := c.endpoint() // validate has refused what has none
	who, secret = signer{endpoint, c.AccessKey}, c.SecretKey
	if c.signIn != nil {
		who.id, secret = c.signIn.login.Reveal(), c.signIn.password.Reveal()
	}
	hash := hmac.New(sha256.New, r.salt)
	hash.Write([]byte(c.Region + "\n" + c.signature() + "\n" + secret)) // what else decides the signature
	return who, string(hash.Sum(nil))
}

// refuse tells that a configuration's key is not tried now, and until when.
func (r *refusals) refuse(c *accountConfig) error {
	who, secret := r.signer(c)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.recent(who, now)
	if len(known) == 0 {
		return nil
	}
	last, until := known[len(known)-1], time.Time{}
	if last.secret == secret {
		until = last.at.Add(refusalPause)
	}
	if len(known) >= mostRefusals {
		until = known[len(known)-mostRefusals].at.Add(refusalWindow)
	}
	if !now.Before(until) {
		return nil
	}
	what := "access key " + c.AccessKey
	if c.signIn != nil {
		what = "login and password"
	}
	return userError("%s: the cloud has refused them at %s, and is not asked again before %s, whichever account they are written to: "+
		"four refusals in a row lock the cloud account for all its users. Check the values meanwhile, or write another key", what,
		showTime(last.at), showTime(until))
}

// note remembers what became of a try.
func (r *refusals) note(c *accountConfig, err error) {
	if notSent := new(transport.NotSentError); errors.As(err, &notSent) {
		return // a key that is held back was not tried
	}
	who, secret := r.signer(c)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.known.Remove(who)
	case provider.KindOf(err) == provider.KindKeyRefused:
		r.known.Add(who, append(r.recent(who, now), pastRefusal{secret, now}))
	}
}

// recent are the refusals that still matter. The lock is held.
func (r *refusals) recent(who signer, now time.Time) []pastRefusal {
	known, _ := r.known.Get(who)
	return slices.DeleteFunc(slices.Clone(known), func(one pastRefusal) bool { return now.Sub(one.at) >= refusalWindow })
}

// holdPrefix is where the hold of each account stands whose key is refused. Each cluster keeps its own: it is its calls that were refused.
const holdPrefix = "hold/"

// storedHold is what a client remembers of the refusals of an account's key. It outlives the client: a change of the
// configuration, a restart and a failover each make a new one, which would use the dead key at once.
type storedHold struct {
	Signer string `json:"signer"` // tells the key that it is of
	provider.Hold
}

// signer tells one key at one endpoint from another; the secret cannot be worked out from it.
func (c *accountConfig) signer() string {
	endpoint, _ := c.endpoint() // validate has refused what has none
	hash := hmac.New(sha256.New, []byte(c.SecretKey))
	hash.Write([]byte(c.Provider + "\n" + endpoint + "\n" + c.Region + "\n" + c.signature() + "\n" + c.AccessKey))
	return hex.EncodeToString(hash.Sum(nil))
}

// resumeHold has a new client of an account begin with what the one before remembered, if that was of the same key. From then on it is
// told of changes.
func (b *backend) resumeHold(ctx context.Context, s logical.Storage, a *account) error {
	holder, ok := a.cloud.(provider.Holder)
	if !ok {
		return nil
	}
	stored, err := load[storedHold](ctx, s, holdPrefix+a.name)
	if err != nil {
		return err
	}
	resumed := stored != nil && stored.Signer == a.config.signer()
	_, knew := holder.Hold()
	if resumed {
		holder.Resume(stored.Hold)
	}
	hold, held := holder.Hold()
	if stored != nil || held {
		a.holdStored.Store(true) // or is being stored now, by the client before: removing one that is not there does no harm
	}
	switch {
	case stored != nil && !resumed, // of a key that was replaced: it may come back, and work
		resumed && held && !hold.Since.Equal(stored.Since), // written under a clock that was wrong
		held != resumed, resumed && knew && !hold.Equal(stored.Hold): // the client before has learned that while none was open to be stored from
		b.holds.Store(a.name, true)
	}
	holder.OnHold(func() { b.holds.Store(a.name, true) })
	return nil
}

// followHold has a client that takes the place of another tell of its refusals as that did. The other's may be being stored now:
// removing one that is not there does no harm.
func (b *backend) followHold(a *account) {
	a.holdStored.Store(true)
	if holder, ok := a.cloud.(provider.Holder); ok {
		holder.OnHold(func() { b.holds.Store(a.name, true) })
	}
}

// storeUnstoredHolds has the first storeHolds of a tick try what could not be stored. Each request that tried would wait for a storage
// that hangs, and log.
func (b *backend) storeUnstoredHolds() {
	b.unstored.Range(func(name, _ any) bool {
		b.unstored.Delete(name)
		b.holds.Store(name, true)
		return true
	})
}

// storeHolds stores what has changed while a request ran. A failure costs no request: the hold is in memory.
func (b *backend) storeHolds(ctx context.Context, s logical.Storage) {
	var names []string
	b.holds.Range(func(name, _ any) bool {
		b.holds.Delete(name)
		names = append(names, name.(string))
		return true
	})
	if len(names) == 0 || !b.tendsLocalStorage() {
		return
	}
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	for _, name := range names {
		if err := b.storeHold(ctx, s, name); err != nil {
			b.unstored.Store(name, true)
			b.Logger().Warn("what the cloud has said of an account's key cannot be stored: a restart would use a refused key at "+
				"once", "account", name, "error", err)
		}
	}
}

func (b *backend) storeHold(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, holdPrefix+name) // the later of two requests must not store the earlier news
	if err != nil {
		return err
	}
	defer unlock()
	a := b.latestAccount(name)
	if a == nil {
		return nil
	}
	hold, held := provider.Hold{}, false
	if holder, ok := a.cloud.(provider.Holder); ok {
		hold, held = holder.Hold()
	}
	switch stored := a.holdStored.Swap(held); {
	case held:
		return save(ctx, s, holdPrefix+name, storedHold{Signer: a.config.signer(), Hold: hold})
	case stored:
		err := remove(ctx, s, holdPrefix+name)
		a.holdStored.Store(err != nil)
		return err
	default:
		return nil // the first success of a process, mostly
	}
}

func (b *backend) removeHold(ctx context.Context, s logical.Storage, name string) error {
	unlock, err := b.lock(ctx, holdPrefix+name)
	if err != nil {
		return err
	}
	defer unlock()
	return remove(ctx, s, holdPrefix+name)
}
