// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// oscCloud makes OUTSCALE's calls.
type oscCloud struct {
	sender
	kind     clouds.Cloud
	endpoint string
	region   string
	root     key
	session  *session
}

func newOutscale(c provider.Config) (*session, error) {
	if c.Region == "" {
		return nil, errors.New("OSC_REGION is empty: name the account's region, such as eu-west-2")
	}
	kind, err := clouds.Of(c.Provider)
	if err != nil {
		return nil, err
	}
	client, err := clouds.Open(c)
	if err != nil {
		return nil, err
	}
	endpoint, err := kind.Endpoint(c.Region, c.Endpoint)
	if err != nil {
		return nil, err
	}
	s := &session{cloud: client, title: "OUTSCALE"}
	o := &oscCloud{
		kind:     kind,
		sender:   sender{base: c.Base, pace: 300 * time.Millisecond},
		endpoint: endpoint,
		region:   c.Region,
		root:     key{id: c.AccessKey, secret: c.SecretKey},
		session:  s,
	}
	s.raw, s.questions = o, o.questions
	return s, nil
}

type fields map[string]any

// call makes one call with a key, signed for a region.
func (o *oscCloud) call(ctx context.Context, by key, region, op string, body fields) (answer, error) {
	sign, err := o.kind.Signer(provider.Config{AccessKey: by.id, SecretKey: by.secret, Region: region})
	if err != nil {
		return answer{}, err
	}
	a, err := o.send(ctx, sign, http.MethodPost, o.endpoint+"/"+op, http.Header{}, body)
	if err != nil {
		return answer{}, err
	}
	var said struct {
		Errors []struct{ Code, Type string }
	}
	if !a.good() && json.Unmarshal(a.body, &said) == nil && len(said.Errors) > 0 {
		a.code, a.kind = said.Errors[0].Code, said.Errors[0].Type
	}
	return a, nil
}

func (o *oscCloud) asRoot(ctx context.Context, op string, body fields) (answer, error) {
	return o.call(ctx, o.root, o.region, op, body)
}

// make makes a key of the probe's user that ends by itself.
func (o *oscCloud) make(ctx context.Context, life time.Duration) (key, error) {
	k := key{label: keylabel.New(keylabel.NewID(), keylabel.KindLease).String(), end: time.Now().Add(life)}
	a, err := o.asRoot(ctx, "CreateAccessKey", fields{"UserName": o.session.user.Name, "Tag": k.label, "ExpirationDate": oscDate(k.end)})
	if err != nil {
		return key{}, err
	}
	var made struct {
		AccessKey struct {
			AccessKeyID string `json:"AccessKeyId"`
			SecretKey   provider.Secret
		}
	}
	if err := a.decode(&made); err != nil {
		return key{}, err
	}
	k.id, k.secret = made.AccessKey.AccessKeyID, made.AccessKey.SecretKey
	return k, nil
}

func oscDate(t time.Time) string { return t.UTC().Format(oscDateFormat) }

const oscDateFormat = "2006-01-02T15:04:05.000Z"

// deactivate keeps the date.
func (o *oscCloud) deactivate(ctx context.Context, k key) error {
	a, err := o.asRoot(
		ctx,
		"UpdateAccessKey",
		fields{"UserName": o.session.user.Name, "AccessKeyId": k.id, "State": "INACTIVE", "ExpirationDate": oscDate(k.end)},
	)
	if err == nil && !a.good() {
		err = fmt.Errorf("deactivating a key was %s", a)
	}
	return err
}

func (o *oscCloud) delete(ctx context.Context, id string) (answer, error) {
	return o.asRoot(ctx, "DeleteAccessKey", fields{"UserName": o.session.user.Name, "AccessKeyId": id})
}

// clear implements rawCloud.
func (o *oscCloud) clear(ctx context.Context) error { return clearKeys(ctx, o.session) }

func clearKeys(ctx context.Context, s *session) error {
	keys, err := s.cloud.ListKeys(ctx, s.user.Name)
	for _, k := range keys {
		err = errors.Join(err, s.cloud.RevokeKey(ctx, k.Ref(s.accountID)))
	}
	return err
}

// signs tells whether the cloud knows a key: a user without rights is denied, with another code than a bad key.
func (o *oscCloud) signs(ctx context.Context, k key, region string) (bool, answer, error) {
	a, err := o.call(ctx, k, region, "ReadAccessKeys", fields{})
	denied := a.status == http.StatusForbidden || slices.Contains([]string{"4", "5", "7", "8", "14"}, a.code)
	return err == nil && (a.good() || denied), a, err
}
