// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	keyLife = 30 * time.Minute // of keys that are removed long before; a policy seldom forbids it
	dying   = time.Minute
	longest = time.Minute // that is waited for something to become known
)

// questions are those that OUTSCALE's documentation leaves open.
func (o *oscCloud) questions(*session) []question {
	return append(o.newQuestions(), []question{
		o.session.conformance(),
		{"A new key signs", atOnce, "Rules.ActivationDelay", o.activation},
		{"A new key is listed", atOnce, "Rules.ListingDelay", o.listing},
		{"The label of a key is listed unchanged", "yes", "", o.label},
		{"Deleting an ACTIVE key of a user", refused, "Rules.DeleteActiveUserKeys", o.deleteActive},
		{"Deleting a key that does not exist", "", "", o.deleteUnknown},
		{"An update of the state without a date", "removes the date", "Rules.KeepDateOnUpdate", o.stateOnly},
		{"A call with an INACTIVE key", "refused (401, 1)", "Rules.UnknownForDeadKeys", o.inactive},
		{"A call with a wrong secret", "", "", o.wrongSecret},
		{"A signature for another region", refused, "Rules.AnyScopeRegion", o.otherRegion},
		{"A permitted dry run", "accepted (200)", "Rules.DryRunRefuses", o.dryRun},
		{"A dry run with a date in the past", "", "", o.dryRunPast},
		{"The error of the eleventh key", "QuotaExceded", "Rules.QuotaExceededSpelling", o.quota},
		{"Thirty calls at once", "", "", o.burst},
		{"A key signs after its date", "no", "", o.pastDate},
		{"Deleting an expired key, INACTIVE", accepted, "Rules.RefuseExpiredDelete", o.deleteExpired},
	}...)
}

func (o *oscCloud) activation(ctx context.Context) (string, error) {
	k, err := o.make(ctx, keyLife)
	if err != nil {
		return "", err
	}
	// Three tries alone: four refusals in a row lock the account for a minute.
	return tryAfter(ctx, []time.Duration{0, 10 * time.Second, 20 * time.Second}, func(ctx context.Context) (bool, error) {
		ok, _, err := o.signs(ctx, k, o.region)
		return ok, err
	})
}

func (o *oscCloud) listing(ctx context.Context) (string, error) {
	k, err := o.make(ctx, keyLife)
	if err != nil {
		return "", err
	}
	return waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
		_, there, err := o.session.find(ctx, k.id)
		return there, err
	})
}

// settled is a key that the cloud knows everywhere.
func (o *oscCloud) settled(ctx context.Context, life time.Duration) (key, error) {
	k, err := o.make(ctx, life)
	if err != nil {
		return key{}, err
	}
	_, err = waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
		_, there, err := o.session.find(ctx, k.id)
		return there, err
	})
	return k, err
}

func (o *oscCloud) label(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	found, _, err := o.session.find(ctx, k.id)
	if found.Label == k.label {
		return "yes", err
	}
	return "no", err
}

func (o *oscCloud) deleteActive(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	a, err := o.delete(ctx, k.id)
	return a.word(), err
}

func (o *oscCloud) deleteUnknown(ctx context.Context) (string, error) {
	a, err := o.delete(ctx, "PROBE0000000000000000")
	return a.String(), err
}

func (o *oscCloud) stateOnly(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	a, err := o.asRoot(ctx, "UpdateAccessKey", fields{"UserName": o.session.user.Name, "AccessKeyId": k.id, "State": "INACTIVE"})
	if err != nil || !a.good() {
		return a.String(), err
	}
	found, _, err := o.session.find(ctx, k.id)
	if found.Expires.IsZero() {
		return "removes the date", err
	}
	return "keeps the date", err
}

func (o *oscCloud) inactive(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	if err := o.deactivate(ctx, k); err != nil {
		return "", err
	}
	_, a, err := o.signs(ctx, k, o.region)
	return a.String(), err
}

func (o *oscCloud) wrongSecret(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	k.secret = "0000000000000000000000000000000000000000"
	_, a, err := o.signs(ctx, k, o.region)
	return a.String(), err
}

func (o *oscCloud) otherRegion(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	if ok, a, err := o.signs(ctx, k, o.region); err != nil || !ok {
		return "not known: the right one was " + a.String(), err
	}
	ok, _, err := o.signs(ctx, k, "nowhere-1")
	if ok {
		return accepted, err
	}
	return refused, err
}

func (o *oscCloud) dryRun(ctx context.Context) (string, error) {
	a, err := o.asRoot(
		ctx,
		"CreateAccessKey",
		fields{"UserName": o.session.user.Name, "ExpirationDate": oscDate(time.Now().Add(keyLife)), "DryRun": true},
	)
	return a.String(), err
}

func (o *oscCloud) dryRunPast(ctx context.Context) (string, error) {
	a, err := o.asRoot(
		ctx,
		"CreateAccessKey",
		fields{"UserName": o.session.user.Name, "ExpirationDate": oscDate(time.Now().Add(-time.Hour)), "DryRun": true},
	)
	return a.String(), err
}

func (o *oscCloud) quota(ctx context.Context) (string, error) {
	for range o.session.cloud.KeyQuota() + 1 {
		a, err := o.asRoot(ctx, "CreateAccessKey", fields{"UserName": o.session.user.Name, "ExpirationDate": oscDate(time.Now().Add(keyLife))})
		if err != nil {
			return "", err
		}
		if !a.good() {
			return strings.Trim(strings.TrimPrefix(a.kind, "TooManyResources "), "()"), nil
		}
	}
	return "none: the quota is more than ten", nil
}

func (o *oscCloud) burst(ctx context.Context) (string, error) {
	type result struct {
		answer
		err error
	}
	fast := *o
	fast.pace = 0
	results := make(chan result)
	for range 30 {
		go func() {
			a, err := fast.asRoot(ctx, "ReadAccessKeys", fields{})
			results <- result{a, err}
		}()
	}
	counts := map[string]int{}
	var failed error
	for range 30 {
		r := <-results
		if r.err != nil {
			failed = r.err
			continue
		}
		counts[r.String()]++
	}
	if failed != nil {
		return "", failed
	}
	return spoken(counts), pause(ctx, 5*time.Second)
}

func (o *oscCloud) pastDate(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, dying)
	if err != nil {
		return "", err
	}
	if err := pause(ctx, time.Until(k.end)+10*time.Second); err != nil {
		return "", err
	}
	ok, a, err := o.signs(ctx, k, o.region)
	if ok {
		return fmt.Sprintf("yes, 10 s later: %s", a), err
	}
	return "no", err
}

func (o *oscCloud) deleteExpired(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, dying)
	if err != nil {
		return "", err
	}
	if err := o.deactivate(ctx, k); err != nil {
		return "", err
	}
	if err := pause(ctx, time.Until(k.end)+10*time.Second); err != nil {
		return "", err
	}
	a, err := o.delete(ctx, k.id)
	return a.word(), err
}
