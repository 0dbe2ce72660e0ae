package emulator

// The scenarios of a scan.

import "strings"

// Scenario is what else happens during a scan. In a scenario with a forged webhook, a webhook that is altered as a [Forgery]
// says is sent instead of the genuine one. If the gateway accepts it, the payment is made.
type Scenario string

// The scenarios.
const (
	ScenarioTwice             Scenario = "twice"           // two tills scan the barcode at the same moment
	ScenarioVoid              Scenario = "void"            // the merchant voids the barcode while the till waits for the answer
	ScenarioLate              Scenario = "late"            // the barcode's deadline is set to a time before the scan, and is not set back
	ScenarioAfterVoid         Scenario = "after_void"      // the till has asked before the barcode was voided: a void barcode is paid
	ScenarioRepeatedNotice    Scenario = "repeated_notice" // the notice is sent twice, or once more if the payment is paid already
	ScenarioLostNotice        Scenario = "lost_notice"     // the payment is made, and its notice is never sent
	ScenarioForgedSignature   Scenario = "forged_signature"
	ScenarioForgedAmount      Scenario = "forged_amount"
	ScenarioForgedMerchantUID Scenario = "forged_merchant_uid"
	ScenarioForgedUnsigned    Scenario = "forged_unsigned"
)

// forgedPrefix begins the scenarios with a forged webhook. The Forgery follows it.
const forgedPrefix = "forged_"

// scenarios are the values that a scan may name.
var scenarios = []Scenario{
	ScenarioTwice, ScenarioVoid, ScenarioLate, ScenarioAfterVoid, ScenarioRepeatedNotice, ScenarioLostNotice,
	ScenarioForgedSignature, ScenarioForgedAmount, ScenarioForgedMerchantUID, ScenarioForgedUnsigned,
}

// forgery returns what the scenario alters in the confirm webhook, or "".
func (s Scenario) forgery() Forgery {
	forgery, forged := strings.CutPrefix(string(s), forgedPrefix)
	if !forged {
		return ""
	}
	return Forgery(forgery)
}

// noticeFault returns what the scenario makes of a notice's fault.
func (s Scenario) noticeFault(f Fault) Fault {
	if s == ScenarioLostNotice {
		return Fault{Drop: DropBefore}
	}
	f.Duplicate = f.Duplicate || s == ScenarioRepeatedNotice
	return f
}
