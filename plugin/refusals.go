// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

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
	return userError("%s: the cloud has refused them at %s, and is not asked again before %s, whichever account they are written to: four refusals in a row lock the cloud account "+
		"for all its users. Check the values meanwhile, or write another key", what, showTime(last.at), showTime(until))
}

// note remembers what became of a try.
func (r *refusals) note(c *accountConfig, err error) {
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
