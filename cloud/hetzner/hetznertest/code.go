package hetznertest

import (
	"fmt"
	"net/http"
)

// Code of an error, as it stands in an answer's body.
type Code string

// The codes that the API can answer with. Every one of them can be had with a Fault.
const (
	Unauthorized          Code = "unauthorized"
	TokenReadonly         Code = "token_readonly"
	Forbidden             Code = "forbidden"
	ResourceLimitExceeded Code = "resource_limit_exceeded"
	NotFound              Code = "not_found"
	MethodNotAllowed      Code = "method_not_allowed"
	UniquenessError       Code = "uniqueness_error"
	Conflict              Code = "conflict"
	Deprecated            Code = "deprecated_api_endpoint"
	ResourceUnavailable   Code = "resource_unavailable"
	JSONError             Code = "json_error"
	ServiceError          Code = "service_error"
	InvalidInput          Code = "invalid_input"
	FloatingIPAssigned    Code = "floating_ip_assigned"
	MustBeUnassigned      Code = "must_be_unassigned"
	Locked                Code = "locked"
	Protected             Code = "protected"
	RateLimitExceeded     Code = "rate_limit_exceeded"
	ServerError           Code = "server_error"
	Maintenance           Code = "maintenance"
	BadGateway            Code = "bad_gateway"
	Unavailable           Code = "unavailable"
	Timeout               Code = "timeout"
)

var statuses = map[Code]int{
	Unauthorized:          http.StatusUnauthorized,
	TokenReadonly:         http.StatusUnauthorized,
	Forbidden:             http.StatusForbidden,
	ResourceLimitExceeded: http.StatusForbidden,
	NotFound:              http.StatusNotFound,
	MethodNotAllowed:      http.StatusMethodNotAllowed,
	UniquenessError:       http.StatusConflict,
	Conflict:              http.StatusConflict,
	Deprecated:            http.StatusGone,
	ResourceUnavailable:   http.StatusPreconditionFailed,
	JSONError:             http.StatusBadRequest,
	ServiceError:          http.StatusUnprocessableEntity,
	InvalidInput:          http.StatusUnprocessableEntity,
	FloatingIPAssigned:    http.StatusUnprocessableEntity,
	MustBeUnassigned:      http.StatusUnprocessableEntity,
	Locked:                http.StatusLocked,
	Protected:             http.StatusLocked,
	RateLimitExceeded:     http.StatusTooManyRequests,
	ServerError:           http.StatusInternalServerError,
	BadGateway:            http.StatusBadGateway,
	Maintenance:           http.StatusServiceUnavailable,
	Unavailable:           http.StatusServiceUnavailable,
	Timeout:               http.StatusGatewayTimeout,
}

// Status is the HTTP status that goes with the code; 500 for one that the API does not have.
func (c Code) Status() int {
	if status, ok := statuses[c]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// failure is an answer that is none of success.
type failure struct {
	code    Code
	message string
	details any
}

func refuse(code Code, format string, args ...any) *failure {
	return &failure{code: code, message: fmt.Sprintf(format, args...)}
}

// invalid refuses one field, or query parameter, of a request.
func invalid(field, format string, args ...any) *failure {
	reason := fmt.Sprintf(format, args...)
	return &failure{
		code:    InvalidInput,
		message: fmt.Sprintf("invalid input in field '%s': %s", field, reason),
		details: map[string]any{"fields": []map[string]any{{"name": field, "messages": []string{reason}}}},
	}
}

// body in the form that every error of the API has.
func (f *failure) body() any {
	return map[string]any{"error": map[string]any{"code": f.code, "message": f.message, "details": f.details}}
}
