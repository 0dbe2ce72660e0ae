package caddycvs

// This file holds the events, for the handlers of Caddy's app "events". They are emitted beside what they are
// about: a handler delays nothing.

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// The events.
const (
	eventIssued             = "cvs.issued"
	eventConfirmed          = "cvs.confirmed"
	eventRefused            = "cvs.refused"
	eventPaid               = "cvs.paid"
	eventExpired            = "cvs.expired"
	eventTellFailed         = "cvs.tell_failed"
	eventCredentialsRefused = "cvs.credentials_refused"
)

var eventNames = []string{
	eventIssued, eventConfirmed, eventRefused, eventPaid, eventExpired, eventTellFailed, eventCredentialsRefused,
}

// maxEvents is how many events wait for the handlers at most.
const maxEvents = 1000

// emitter emits the events of a configuration, one after the other.
type emitter struct {
	ctx     caddy.Context
	app     *caddyevents.App
	metrics *metrics
	logger  *zap.Logger
	warned  warnTimer
	start   sync.Once
	queue   chan event
}

type event struct {
	name, account string
	data          map[string]any
}

func newEmitter(ctx caddy.Context, m *metrics, logger *zap.Logger) (*emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	return &emitter{ctx: ctx, app: app.(*caddyevents.App), metrics: m, logger: logger}, nil
}

// emit emits the event of a record. It has what names the order, and no text of the shop's.
func (e *emitter) emit(name string, r *record) {
	if e.app.ShouldEmit(name) {
		e.put(event{name, r.account, map[string]any{
			"account": r.account, "merchant_uid": r.merchantUID, "imp_uid": r.impUID, "amount": r.amount, "cause": r.cause.name,
		}})
	}
}

// credentialsRefused emits that the API refuses the keys of an account.
func (e *emitter) credentialsRefused(account string) {
	e.emit(eventCredentialsRefused, &record{subject: subject{account: account}, cause: cause{name: "imp_key or imp_secret"}})
}

// put has an event emitted, unless there are too many or the configuration has ended.
func (e *emitter) put(ev event) {
	e.start.Do(func() {
		e.queue = make(chan event, maxEvents)
		go e.run()
	})
	if e.ctx.Err() == nil {
		select {
		case e.queue <- ev:
			return
		default:
		}
	}
	e.drop(&ev)
}

func (e *emitter) drop(ev *event) {
	e.metrics.countDropped(ev.account)
	if e.warned.isDue() {
		e.logger.Warn("an event was dropped: its handlers are too slow, or the configuration has ended", zap.String("event", ev.name))
	}
}

// run emits until the configuration ends.
func (e *emitter) run() {
	for {
		select {
		case <-e.ctx.Done():
		case ev := <-e.queue:
			if e.ctx.Err() == nil {
				e.handle(&ev)
			} else {
				e.drop(&ev)
			}
			continue
		}
		for { // what still waits
			select {
			case ev := <-e.queue:
				e.drop(&ev)
			default:
				return
			}
		}
	}
}

// handle has the handlers called. A panic of one must not end the program.
func (e *emitter) handle(ev *event) {
	defer func() {
		if problem := recover(); problem != nil {
			e.logger.Error("a handler of an event panicked", zap.String("event", ev.name), zap.Any("panic", problem))
		}
	}()
	e.app.Emit(e.ctx, ev.name, ev.data)
}
