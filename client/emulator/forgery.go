package emulator

// Forged webhooks: what a forger would alter.

import (
	"net/url"
	"strings"
)

// Forgery is the part of a webhook that is altered.
type Forgery string

// The forgeries. The first two alter the query parameters cvs_sig and cvs_amount, or add them if the URL lacks them.
const (
	ForgedSignature   Forgery = "signature"
	ForgedAmount      Forgery = "amount"
	ForgedMerchantUID Forgery = "merchant_uid" // in the body
	ForgedUnsigned    Forgery = "unsigned"     // the whole query is removed
)

// forge alters a URL or a message. The new value has the length of the old one, so that a gateway can refuse it only for being
// forged.
func forge(f Forgery, u *url.URL, m *message) {
	switch f {
	case ForgedSignature:
		u.RawQuery = alterParameter(u.RawQuery, parameterSig)
	case ForgedAmount:
		u.RawQuery = alterParameter(u.RawQuery, parameterAmount)
	case ForgedMerchantUID:
		m.MerchantUID = alter(m.MerchantUID)
	case ForgedUnsigned:
		u.RawQuery, u.ForceQuery = "", false
	}
}

// alterParameter alters a parameter's value in a query, or adds the parameter. It does not encode the other parameters anew.
func alterParameter(query, name string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			pairs[i] = name + "=" + alter(value)
			return strings.Join(pairs, "&")
		}
	}
	return strings.TrimPrefix(query+"&"+name+"="+alter(""), "&")
}

// alter replaces the first character. In base64, a change of the last character may leave the decoded signature the same.
func alter(s string) string {
	if s == "" {
		return "1"
	}
	runes := []rune(s)
	if runes[0] == '1' {
		runes[0] = '2'
	} else {
		runes[0] = '1'
	}
	return string(runes)
}
