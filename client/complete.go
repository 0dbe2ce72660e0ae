package client

// This file holds the gateway's part of a POST /cvs: filling in its defaults, signing the
// callback URLs, and the identity by which equal calls become one.

import (
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// Defaults fill the fields of a request that are missing, null or empty.
type Defaults struct {
	PG         string
	ChannelKey string
	ConfirmURL *signedurl.Base // signed
	NoticeURL  *signedurl.Base // signed
	ExpiresIn  time.Duration   // fills expired_at
}

// Complete fills in the fields that are missing. Callback URLs are signed with keys for
// the account; one that is in the request is sent as it is. Every other byte of the
// request stays as it came. The error is signedurl.ErrNoKey.
func (i *Issue) Complete(d Defaults, keys signedurl.Keys, account string, now time.Time) error {
	i.account, i.defaults, i.keys = account, d, keys
	i.Named = Named{
		PG: !i.body.Missing("pg"), ChannelKey: !i.body.Missing("channel_key"), ExpiredAt: i.ExpiredAt != 0,
	}
	i.signs = signs{
		confirm: d.ConfirmURL != nil && i.body.Missing("confirm_url"),
		notice:  d.NoticeURL != nil && i.body.Missing("notice_url"),
	}
	fill := func(field, value string) {
		if value != "" && i.body.Missing(field) {
			i.body.SetString(field, value)
		}
	}
	fill("pg", d.PG)
	fill("channel_key", d.ChannelKey)
	if d.ExpiresIn > 0 && i.ExpiredAt == 0 {
		i.ExpiredAt = now.Add(d.ExpiresIn).Unix()
		i.body.SetInt("expired_at", i.ExpiredAt)
	}
	return i.BeginAttempt(signedurl.NewID())
}

// Named says which fields the app named itself, and Complete did not fill in.
type Named struct{ PG, ChannelKey, ExpiredAt bool }

// signs says which callback URLs Complete filled in.
type signs struct{ confirm, notice bool }

// BeginAttempt gives the call another attempt's id: the callback URLs that Complete filled in are
// signed again. The error is signedurl.ErrNoKey.
func (i *Issue) BeginAttempt(id string) error {
	claims := signedurl.Claims{Account: i.account, Amount: i.Amount, Expires: i.ExpiredAt, ID: id}
	for _, callback := range [...]struct {
		signs   bool
		field   string
		base    *signedurl.Base
		purpose signedurl.Purpose
	}{
		{i.signs.confirm, "confirm_url", i.defaults.ConfirmURL, signedurl.Confirm},
		{i.signs.notice, "notice_url", i.defaults.NoticeURL, signedurl.Notice},
	} {
		if !callback.signs {
			continue
		}
		signed, err := callback.base.Sign(i.keys, callback.purpose, i.MerchantUID, claims)
		if err != nil {
			return fmt.Errorf("%s: %w", callback.field, err)
		}
		i.body.SetString(callback.field, signed)
	}
	i.ID = id
	return nil
}

// Field returns the text of a field as it is sent, "" if there is none.
func (i *Issue) Field(name string) string { return i.body.Get(name).Text }

// Identity returns a text that is equal for identical calls of clients of one account only.
func (c *Client) Identity(i *Issue) string { return i.identity(c.tier) }

// identity returns a text that is equal for identical calls only: of the request as it
// came and all that completes it, except the time. Each part stands behind its length,
// so that no two lists of parts give one text.
func (i *Issue) identity(tier string) string {
	d := &i.defaults
	id := make([]byte, 0, 256+len(i.body.Original()))
	for _, part := range [...]string{
		tier, i.account, d.PG, d.ChannelKey, d.ConfirmURL.String(), d.NoticeURL.String(), d.ExpiresIn.String(),
		i.body.MediaType(), i.body.Original(),
	} {
		id = strconv.AppendInt(id, int64(len(part)), 10)
		id = append(append(id, ':'), part...)
	}
	return string(id)
}
