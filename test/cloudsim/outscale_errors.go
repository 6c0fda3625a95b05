// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"fmt"
	"net/http"
)

// apiError is a refusal. Code is a string of digits in the API.
type apiError struct {
	status    int
	errorType string
	details   string
	code      string
}

// Codes that the real cloud is known to use. OUTSCALE publishes few numbers: those under "assumed" only stand for their
// family (4xxx invalid, 9xxx conflict), and a client must not match them one by one.
const (
	codeAuthentication = "1"
	codePlatform       = "6"
	codeNotAllowed     = "7"
	codeLocked         = "13"
	codeThrottled      = "24"
	codeKeyNotFound    = "4000"
	codeUnknownKey     = "4120"
	codeNoSuchUser     = "5075"
	codeNoSuchGroup    = "5060"
	codeDuplicateUser  = "9022"
	codeDuplicateGroup = "9008"
	codeTooManyKeys    = "10005"

	// assumed
	codeMethod       = "4" // a call that login and password cannot make
	codeDefault      = "0"
	codeParameter    = "4001"
	codeMissing      = "4003"
	codeType         = "4108"
	codeValue        = "4110"
	codePolicy       = "4047"
	codeInvalidState = "6003"
	codeUserInUse    = "9018"
	codeNoSuchPolicy = "5062"
)

func accessDenied(code, details string) *apiError {
	return &apiError{http.StatusUnauthorized, "AccessDenied", details, code}
}

func errAuthentication() *apiError { return accessDenied(codeAuthentication, "") }

func errUnknownKey() *apiError {
	return &apiError{http.StatusBadRequest, "InvalidParameterValue", "", codeUnknownKey}
}

func errKeyNotFound() *apiError {
	return &apiError{http.StatusBadRequest, "InvalidParameterValue", "", codeKeyNotFound}
}

func errNoSuchUser() *apiError { return errResource(codeNoSuchUser) }

// errResource is something else than a key that does not exist.
func errResource(code string) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidResource", "", code}
}

func errValue(code, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidParameterValue", fmt.Sprintf(format, args...), code}
}

func errUnknownParameter(name string) *apiError {
	return &apiError{
		http.StatusBadRequest, "InvalidParameter",
		fmt.Sprintf("The parameter %s is unknown.", name), codeParameter,
	}
}

func errParameterType(name string) *apiError {
	return &apiError{
		http.StatusBadRequest, "InvalidParameterType",
		fmt.Sprintf("The parameter type of %s is unknown.", name), codeType,
	}
}

func errMissing(name string) *apiError {
	return &apiError{
		http.StatusBadRequest, "MissingParameter",
		fmt.Sprintf("The parameter %s is missing.", name), codeMissing,
	}
}

func conflict(errorType, code string) *apiError {
	return &apiError{http.StatusConflict, errorType, "", code}
}

// errQuota: the type has been seen in two spellings, the first of them a misspelling.
func (c *Cloud) errQuota() *apiError {
	errorType := "TooManyResources (QuotaExceded)"
	if c.rules.QuotaExceededSpelling {
		errorType = "TooManyResources (QuotaExceeded)"
	}
	return &apiError{http.StatusBadRequest, errorType, "", codeTooManyKeys}
}

// outscaleFaults words faults as OUTSCALE's API words its errors.
type outscaleFaults struct{}

func (outscaleFaults) failure(status int, code string) *answer {
	return refused(&apiError{status, errorTypeOf(status), "", cmp.Or(code, codeDefault)})
}

func (f outscaleFaults) throttled(status int, code string) *answer {
	if status == http.StatusServiceUnavailable {
		return f.failure(status, cmp.Or(code, codePlatform))
	}
	return f.failure(status, cmp.Or(code, codeThrottled))
}

func (outscaleFaults) unknownKey() *answer { return refused(errUnknownKey()) }

// errorTypeOf guesses the type that fits a status ordered by a fault.
func errorTypeOf(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return "AccessDenied"
	case http.StatusBadRequest:
		return "InvalidParameterValue"
	case http.StatusConflict:
		return "ResourceConflict"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	default:
		return "InternalError"
	}
}
