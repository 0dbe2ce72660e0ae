package tillpage

// The page's data in the form in which the template shows them.

// view is what the template shows.
type view struct {
	Query
	Lang      language
	Faults    []string
	Problem   string
	Gateway   *gatewayView
	Selected  *paymentView
	Scenarios []choice
	Endpoints []choice
	Effects   []choice
	Scans     []scanView
	Counts    string
	States    []choice
	Payments  []paymentView
	Pages     int
}

func newView(l language, p Page) view {
	v := view{
		Query: p.Query, Lang: l, Problem: p.Problem, Gateway: l.gateway(p.Gateway),
		Scenarios: l.scenarios(), Endpoints: l.endpoints(), Effects: l.effects(),
		Counts: l.counts(p.Counts),
		Pages:  max(1, (p.Matches+PageSize-1)/PageSize),
	}
	for _, f := range p.Faults {
		v.Faults = append(v.Faults, l.fault(f))
	}
	for _, s := range p.Scans {
		v.Scans = append(v.Scans, l.scan(s, p.Query))
	}
	for _, s := range states {
		v.States = append(v.States, choice{Value: s, Name: l.state(s), Chosen: s == p.Query.State})
	}
	for _, payment := range p.Payments {
		v.Payments = append(v.Payments, l.payment(payment, p.Query))
	}
	if p.Selected != nil {
		v.Selected = new(l.payment(*p.Selected, p.Query))
	}
	return v
}

// Here returns the query that leads to this page again.
func (v view) Here() string { return v.encode() }

// LangURL returns the address of this page in another language.
func (v view) LangURL(l language) string {
	query := v.encode()
	if query == "" {
		return "till?" + languageQuery + "=" + string(l)
	}
	return "till" + query + "&" + languageQuery + "=" + string(l)
}

// Filtered reports whether the list may leave out payments.
func (v view) Filtered() bool { return v.Text != "" || v.State != "" || v.Page > 1 }

// Newer returns the address of the page with newer payments, or "".
func (v view) Newer() string {
	if v.Page == 1 {
		return ""
	}
	return v.pageURL(min(v.Page-1, v.Pages))
}

// Older returns the address of the page with older payments, or "".
func (v view) Older() string {
	if v.Page >= v.Pages {
		return ""
	}
	return v.pageURL(v.Page + 1)
}

func (v view) pageURL(page int) string {
	to := v.Query
	to.Page = page
	return to.link() + "#list-title"
}
