// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestACloudSendsNoRequestElsewhere has the cloud say what has OpenBao send a request on to another node, where it is done again:
// it looks for these phrases in the text of errors.
func TestACloudSendsNoRequestElsewhere(t *testing.T) {
	t.Parallel()
	for _, phrase := range []string{
		"cannot write to readonly storage", "please forward to the active node", "node is not the leader", "Vault is in standby mode",
	} {
		t.Run(phrase, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			m.configure()
			m.sim.Order(cloudsim.Fault{
				Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 403,
				Body: fmt.Sprintf(`{"Errors":[{"Code":"4","Type":"AccessDenied","Details":%q}],"ResponseContext":{"RequestId":"r"}}`, phrase),
			})
			_, err := m.tryRead("creds/app")
			var answer *api.ResponseError
			if !errors.As(err, &answer) || answer.StatusCode == 307 {
				t.Errorf("the server answers %v", err)
			}
			creates := 0
			for _, call := range m.sim.Calls() {
				if call.Op == "CreateAccessKey" {
					creates++
				}
			}
			if creates != 1 {
				t.Errorf("the key was asked for %d times", creates)
			}
		})
	}
}
