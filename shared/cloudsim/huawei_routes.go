// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "net/http"

// opByAgency shares its path with CreateTemporaryAccessKeyByToken: the body tells.
const opByAgency = "CreateTemporaryAccessKeyByAgency"

// routes are the calls served, named as the vendor's SDK names them.
func routes() []route {
	const (
		credentials = "/v3.0/OS-CREDENTIAL/credentials"
		sessions    = "/v3.0/OS-CREDENTIAL/securitytokens"
	)
	return []route{
		{"CreatePermanentAccessKey", http.MethodPost, credentials, 201, true, false, withBody(iamCaller.createKey)},
		{"ListPermanentAccessKeys", http.MethodGet, credentials, 200, true, false, iamCaller.listKeys},
		{"ShowPermanentAccessKey", http.MethodGet, credentials + "/{access_key}", 200, true, false, iamCaller.showKey},
		{"UpdatePermanentAccessKey", http.MethodPut, credentials + "/{access_key}", 200, true, false, withBody(iamCaller.updateKey)},
		{"DeletePermanentAccessKey", http.MethodDelete, credentials + "/{access_key}", 204, true, false, iamCaller.deleteKey},
	}
}

// assumesAgency tells the two operations on temporary keys apart.
func assumesAgency([]byte) bool { return false }
