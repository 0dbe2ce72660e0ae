package client

// This file holds what a POST /cvs may contain, and the validation of its body by the
// API's rules.

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// IssueRequest holds the fields of POST /cvs. Amount and MerchantUID are required.
type IssueRequest struct {
	MerchantUID   string   `json:"merchant_uid"`             // at most 40 characters; an order that is paid is refused
	Amount        Amount   `json:"amount"`                   // greater than 0
	Barcode       string   `json:"barcode,omitempty"`        // the merchant's own number; GalaxiaMoneytree issues one without it
	ExpiredAt     int64    `json:"expired_at,omitempty"`     // deadline in Unix seconds; the contract's default without it
	Name          string   `json:"name,omitempty"`           // at most 40 characters
	BuyerName     string   `json:"buyer_name,omitempty"`     // at most 16 characters
	BuyerEmail    string   `json:"buyer_email,omitempty"`    // at most 64 characters
	BuyerTel      string   `json:"buyer_tel,omitempty"`      // at most 16 characters
	BuyerAddr     string   `json:"buyer_addr,omitempty"`     // at most 128 characters
	BuyerPostcode string   `json:"buyer_postcode,omitempty"` // at most 8 characters
	PG            string   `json:"pg,omitempty"`             // "galaxia" or "galaxia.{merchant id}"
	ChannelKey    string   `json:"channel_key,omitempty"`    // newer replacement of PG
	ConfirmURL    string   `json:"confirm_url,omitempty"`    // without it every payment is accepted
	NoticeURL     []string `json:"notice_url,omitempty"`
	CustomData    any      `json:"custom_data,omitempty"` // echoed back as a JSON text
}

// validUTF8 must be called before the JSON encoder, which would replace what is invalid
// and so could send two orders under one number.
func (r *IssueRequest) validUTF8() bool {
	texts := append([]string{
		r.MerchantUID, string(r.Amount), r.Barcode, r.Name, r.BuyerName, r.BuyerEmail, r.BuyerTel, r.BuyerAddr,
		r.BuyerPostcode, r.PG, r.ChannelKey, r.ConfirmURL,
	}, r.NoticeURL...)
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) })
}

// Issue is a validated POST /cvs: its body, and the fields that the caller needs.
type Issue struct {
	MerchantUID string
	Amount      string // in the form that decimal.Canonical gives
	ExpiredAt   int64  // 0 if the contract's default applies
	ID          string // of the attempt, in the signed callback URLs; set by BeginAttempt
	Named       Named  // set by Complete

	body     *strict.Body
	account  string         // what it was completed with
	defaults Defaults       // likewise
	keys     signedurl.Keys // likewise
	signs    signs          // set by Complete
}

// limits are the texts of POST /cvs with their greatest length in characters,
// not bytes: names are Korean. 0 means no documented limit.
var limits = []struct {
	field string
	max   int
}{
	{"merchant_uid", 40},
	{"barcode", 0},
	{"name", 40},
	{"buyer_name", 16},
	{"buyer_email", 64},
	{"buyer_tel", 16},
	{"buyer_addr", 128},
	{"buyer_postcode", 8},
	{"pg", 0},
	{"channel_key", 0},
	{"confirm_url", 0},
}

// issueFields are the names for which strict.Parse rejects every other spelling.
var issueFields = []string{
	"merchant_uid", "amount", "barcode", "expired_at", "name", "buyer_name", "buyer_email", "buyer_tel",
	"buyer_addr", "buyer_postcode", "pg", "channel_key", "confirm_url", "notice_url", "custom_data",
}

var pgPattern = regexp.MustCompile(`^galaxia(\.[^\s.]+)?$`)

// ParseIssue reads and validates the body of a POST /cvs by the API's rules
// ("Request barcode API", body parameters). now is the API's time, by which a
// deadline must not have passed: see State.Now. The error is a strict.ErrMediaType,
// an *InvalidError with everything that is wrong, or says why the body cannot
// be read.
func ParseIssue(contentType string, body []byte, now time.Time) (*Issue, error) {
	b, err := strict.Parse(contentType, body, issueFields...)
	if err != nil {
		return nil, err
	}
	issue := &Issue{body: b}
	var problems []string
	report := func(err error) {
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	for _, l := range limits {
		report(validateText(b, l.field, l.max))
	}
	issue.MerchantUID = b.Get("merchant_uid").Text
	report(validateMerchantUID(b.Get("merchant_uid")))
	report(issue.readAmount(b.Get("amount")))
	report(issue.readExpiry(b, now))
	report(ValidatePG(b.Get("pg").Text))
	if v := b.Get("confirm_url"); v.Kind == strict.String {
		report(validateURLs(b, "confirm_url")) // any other kind was reported by validateText
	}
	report(validateURLs(b, "notice_url"))
	if problems != nil {
		return nil, &InvalidError{problems}
	}
	return issue, nil
}

func validateText(b *strict.Body, field string, limit int) error {
	v := b.Get(field)
	switch {
	case b.Missing(field):
		return nil
	case v.Missing():
		return fmt.Errorf("%s must be one text, not a list or object", field)
	case v.Kind == strict.Number:
		return fmt.Errorf("%s must be a string, not a number: put it in quotes", field)
	case v.Kind != strict.String:
		return fmt.Errorf("%s must be a string, not %s", field, v.Kind)
	case limit > 0 && utf8.RuneCountInString(v.Text) > limit:
		return fmt.Errorf("%s has %d characters, at most %d are allowed", field, utf8.RuneCountInString(v.Text), limit)
	case strings.ContainsRune(v.Text, 0):
		return fmt.Errorf("%s has a NUL character", field)
	}
	return nil
}

func validateMerchantUID(v strict.Value) error {
	switch {
	case v.Missing() || v.Kind == strict.String && strings.TrimSpace(v.Text) == "":
		return errors.New("merchant_uid is required")
	// It stands in headers and URLs when the order is checked or looked up.
	case strings.ContainsFunc(v.Text, unicode.IsControl):
		return errors.New("merchant_uid has a control character")
	case strings.TrimSpace(v.Text) != v.Text:
		return errors.New("merchant_uid begins or ends with a space")
	case !FitsPath(v.Text):
		return errors.New(`merchant_uid must not have "." or ".." between slashes`)
	}
	return nil
}

// readAmount accepts whole won. The API or the till would round a fraction: the payment
// would then not match its order, or be refused at every till.
func (i *Issue) readAmount(v strict.Value) error {
	if v.Missing() {
		return errors.New("amount is required, as one number")
	}
	amount, ok := decimal.Canonical(v.Text)
	switch {
	case v.Kind != strict.Number && v.Kind != strict.String:
		return fmt.Errorf("amount must be a number greater than 0, not %s", v.Kind)
	case !ok:
		return errors.New("amount must be a number greater than 0 such as 15000, without commas and currency")
	case !decimal.Positive(amount):
		return errors.New("amount must be a number greater than 0")
	case !decimal.Whole(amount):
		return errors.New("amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic")
	case !decimal.Exact(amount):
		return errors.New("amount is more than 9007199254740992, beyond which the API's numbers are not exact")
	}
	i.Amount = amount
	return nil
}

// readExpiry accepts whole seconds that have not passed. Milliseconds, the usual
// mistake, would be a deadline in the year 50000.
func (i *Issue) readExpiry(b *strict.Body, now time.Time) error {
	if b.Missing("expired_at") {
		return nil
	}
	v := b.Get("expired_at")
	const year5138 = 100_000_000_000
	seconds, err := strconv.ParseInt(v.Text, 10, 64)
	switch {
	case v.Kind != strict.Number && v.Kind != strict.String || err != nil || seconds <= 0 || strconv.FormatInt(seconds, 10) != v.Text:
		return errors.New("expired_at must be a whole number of Unix seconds")
	case seconds >= year5138:
		return errors.New("expired_at must be in Unix seconds; this looks like milliseconds")
	case seconds < now.Unix():
		return errors.New("expired_at has passed: the barcode could not be paid")
	}
	i.ExpiredAt = seconds
	return nil
}

// ValidatePG validates the form of a pg: "galaxia", "galaxia.{merchant id}" or none.
func ValidatePG(pg string) error {
	if pg != "" && !pgPattern.MatchString(pg) {
		return errors.New(`pg must be "galaxia" or "galaxia.{merchant id}"`)
	}
	return nil
}

func validateURLs(b *strict.Body, field string) error {
	list, ok := b.Strings(field)
	if !ok {
		return fmt.Errorf("%s must be a URL or a list of URLs", field)
	}
	for _, raw := range list {
		if u, err := url.Parse(raw); raw != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%s must be an absolute http or https URL", field)
		}
	}
	return nil
}
