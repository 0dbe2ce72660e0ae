package client

// This file holds the gateway's part of a POST /cvs: filling in its defaults, and telling
// whether two calls are the same.

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// Defaults fill the fields that a request leaves out, null and "" included.
type Defaults struct {
	PG         string
	ChannelKey string
	ConfirmURL *signedurl.Base // signed
	NoticeURL  *signedurl.Base // signed
	ExpiresIn  time.Duration   // fills expired_at
}

// Complete fills in what is left out. Callback URLs are signed with keys for
// the account; one that the request brings itself is sent as it is. Every other
// byte of the request stays as it came. The error is signedurl.ErrNoKey.
func (i *Issue) Complete(d Defaults, keys signedurl.Keys, account string, now time.Time) error {
	i.account, i.filled = account, d
	fill := func(field, value string) {
		if value != "" && i.body.Get(field).Missing() && !i.listed(field) {
			i.body.SetString(field, value)
		}
	}
	fill("pg", d.PG)
	fill("channel_key", d.ChannelKey)
	if d.ExpiresIn > 0 && i.ExpiredAt == 0 {
		i.ExpiredAt = now.Add(d.ExpiresIn).Unix()
		i.body.SetInt("expired_at", i.ExpiredAt)
	}
	ticket := signedurl.Ticket{Account: account, Amount: i.Amount, Expires: i.ExpiredAt}
	for _, callback := range [...]struct {
		field   string
		base    *signedurl.Base
		purpose signedurl.Purpose
	}{
		{"confirm_url", d.ConfirmURL, signedurl.Confirm},
		{"notice_url", d.NoticeURL, signedurl.Notice},
	} {
		if callback.base == nil {
			continue
		}
		signed, err := callback.base.Sign(keys, callback.purpose, i.MerchantUID, ticket)
		if err != nil {
			return fmt.Errorf("%s: %w", callback.field, err)
		}
		fill(callback.field, signed)
	}
	return nil
}

// identity tells requests apart that are not the same call. It is the request as
// it came and all that completes it, without the time: texts with their lengths
// before them, and the body.
func (i *Issue) identity(tier string) string {
	d := &i.filled
	texts := [...]string{
		tier, i.account, d.PG, d.ChannelKey, d.ConfirmURL.String(), d.NoticeURL.String(),
		strconv.FormatInt(int64(d.ExpiresIn), 10), i.body.MediaType(),
	}
	size := len(i.body.Original())
	for _, text := range texts {
		size += binary.MaxVarintLen16 + len(text)
	}
	var id strings.Builder
	id.Grow(size)
	for _, text := range texts {
		var length [binary.MaxVarintLen64]byte
		id.Write(length[:binary.PutUvarint(length[:], uint64(len(text)))])
		id.WriteString(text)
	}
	id.WriteString(i.body.Original())
	return id.String()
}

// listed reports whether a form gives field as a list, "notice_url[]".
func (i *Issue) listed(field string) bool {
	return i.body.Get(field).Kind == strict.Absent && i.body.Has(field)
}
