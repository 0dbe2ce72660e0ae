package shop

// This file holds what is for trying the shop out: stopping it, and the list of what it was told.

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// The ways in which the shop can be stopped.
const (
	stoppedAll  = "all"  // it answers Caddy nothing
	stoppedTold = "told" // it still answers the order check: as if it went down as soon as the till has asked
)

// telling is an event that the shop was told.
type telling struct {
	id    string // the webhook-id, which is the same each time
	News  news
	At    time.Time // the last time
	Times int
}

// note notes that the shop was told, once more if it was told the same before.
func (o *order) note(id string, n news, now time.Time) {
	i := slices.IndexFunc(o.Told, func(t telling) bool { return t.id == id })
	if i < 0 {
		i, o.Told = len(o.Told), append(o.Told, telling{id: id, News: n})
	}
	o.Told[i].At = now
	o.Told[i].Times++
}

// runs lets Caddy's requests through unless the shop is stopped in one of the ways.
func (s *shop) runs(next http.HandlerFunc, ways ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		stopped := slices.Contains(ways, s.stopped)
		o := s.orders[r.PathValue("id")]
		if stopped && o != nil {
			o.TurnedAway++
		}
		s.mu.Unlock()
		if stopped {
			refuse(w, http.StatusServiceUnavailable, "상점이 멈춰 있습니다")
			return
		}
		next(w, r)
	}
}

// stop stops the shop, and starts it again if the form names no way to stop it.
func (s *shop) stop(w http.ResponseWriter, r *http.Request) {
	way := r.PostFormValue("stop")
	if !slices.Contains([]string{"", stoppedAll, stoppedTold}, way) {
		s.render(w, r, http.StatusBadRequest, "problem", view{Problem: "page"})
		return
	}
	s.mu.Lock()
	s.stopped = way
	s.mu.Unlock()
	back := "/"
	if path := r.PostFormValue("back"); strings.HasPrefix(path, "/orders/") {
		back = path
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}
