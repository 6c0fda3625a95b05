// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// fakeIAM is as much of AWS IAM as the AWS secrets engine calls for an iam_user role. It verifies nothing: what it costs must not be
// held against the engine that calls it.
type fakeIAM struct {
	latency atomic.Int64 // nanoseconds before each answer
	calls   atomic.Int64

	mu   sync.Mutex
	keys map[string][]string // user -> ids of access keys
	last int
}

func newFakeIAM() *fakeIAM { return &fakeIAM{keys: map[string][]string{}} }

type (
	iamUser struct {
		UserName   string
		UserId     string
		Arn        string
		Path       string
		CreateDate string
	}
	iamKey struct {
		UserName        string
		AccessKeyId     string
		Status          string
		SecretAccessKey string `xml:",omitempty"`
		CreateDate      string
	}
	iamPolicy struct{ PolicyName, PolicyArn string }

	// iamResult has the fields of all answers; the empty ones stay out.
	iamResult struct {
		XMLName           xml.Name
		User              *iamUser    `xml:",omitempty"`
		AccessKey         *iamKey     `xml:",omitempty"`
		AccessKeyMetadata []iamKey    `xml:"AccessKeyMetadata>member,omitempty"`
		AttachedPolicies  []iamPolicy `xml:"AttachedPolicies>member,omitempty"`
		IsTruncated       bool
	}
	iamAnswer struct {
		XMLName   xml.Name
		Result    iamResult
		RequestId string `xml:"ResponseMetadata>RequestId"`
	}
)

const iamPolicyARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"

// ServeHTTP answers a form POST with Action.
func (f *fakeIAM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.calls.Add(1)
	select { // the cloud's own time
	case <-time.After(time.Duration(f.latency.Load())):
	case <-r.Context().Done():
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.PostForm.Get("Action")
	answer := iamAnswer{
		XMLName: xml.Name{Local: action + "Response"}, RequestId: "bench",
		Result: f.do(action, r.PostForm.Get("UserName")),
	}
	answer.Result.XMLName.Local = action + "Result"
	w.Header().Set("Content-Type", "text/xml")
	_ = xml.NewEncoder(w).Encode(answer) // the caller has gone
}

func (f *fakeIAM) do(action, user string) iamResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	const created = "2026-01-01T00:00:00Z"
	switch action {
	case "CreateUser", "GetUser":
		return iamResult{User: &iamUser{
			UserName: user, UserId: "AIDA" + user, Arn: "arn:aws:iam::123456789012:user/" + user, Path: "/", CreateDate: created,
		}}
	case "CreateAccessKey":
		f.last++
		id := fmt.Sprintf("AKIABENCH%011d", f.last)
		f.keys[user] = append(f.keys[user], id)
		return iamResult{AccessKey: &iamKey{
			UserName: user, AccessKeyId: id, Status: "Active",
			SecretAccessKey: fmt.Sprintf("%040d", f.last), CreateDate: created,
		}}
	case "ListAccessKeys":
		var keys []iamKey
		for _, id := range f.keys[user] {
			keys = append(keys, iamKey{UserName: user, AccessKeyId: id, Status: "Active", CreateDate: created})
		}
		return iamResult{AccessKeyMetadata: keys}
	case "ListAttachedUserPolicies":
		return iamResult{AttachedPolicies: []iamPolicy{{"ReadOnlyAccess", iamPolicyARN}}}
	case "DeleteUser":
		delete(f.keys, user)
	}
	return iamResult{}
}
