package kumatp

/*
#include <kumatp.h>

static kumatp_status save_explain(_GoString_ text, _GoString_ packets, kumatp_text **out, kumatp_error **err) {
	return kumatp_save_explain(_GoStringPtr(text), _GoStringLen(text), _GoStringPtr(packets), _GoStringLen(packets), out, err);
}
static kumatp_status save_diff(const kumatp_plan *plan, _GoString_ text, kumatp_text **out, kumatp_error **err) {
	return kumatp_save_diff(plan, _GoStringPtr(text), _GoStringLen(text), out, err);
}
static kumatp_status installed_explain(int32_t netns_fd, _GoString_ packets, kumatp_text **out, kumatp_error **err) {
	return kumatp_installed_explain(netns_fd, _GoStringPtr(packets), _GoStringLen(packets), out, err);
}
*/
import "C"

import (
	"os"
	"runtime"
)

// ExplainSaved describes the outcome of connections and queries with the rules of iptables-save text, whoever wrote them. The packets are those of [Plan.Simulate]; of IPv6, the text needs what ip6tables-save prints as well.
func ExplainSaved(rules string, packets ...string) ([]Explanation, error) {
	document, problem := list(packets)
	if problem != nil {
		return nil, problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.save_explain(rules, document, &out, &err)
	return decode[[]Explanation](out, take(status, err))
}

// DiffSaved says what would be different if the plan's rules were active in place of those in iptables-save text. Only rules
// of kumatp and kumactl are compared.
func (p *Plan) DiffSaved(rules string) (Diff, error) {
	defer runtime.KeepAlive(p)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.save_diff(p.c(), rules, &out, &err)
	return decode[Diff](out, take(status, err))
}

// InstalledExplanations describes the outcome of packets with the installed rules.
type InstalledExplanations struct {
	Answers []Explanation `json:"answers"` // in the order of the packets
	Notes   []Note        `json:"notes"`   // what is not known of the rules
}

// ExplainInstalled describes the outcome of connections and queries with all the rules that are active in a network
// namespace, whoever made them; nil stands for that of the process. The packets are those of [Plan.Simulate].
func ExplainInstalled(netns *os.File, packets ...string) (InstalledExplanations, error) {
	defer runtime.KeepAlive(netns)
	document, problem := list(packets)
	if problem != nil {
		return InstalledExplanations{}, problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.installed_explain(fd(netns), document, &out, &err)
	return decode[InstalledExplanations](out, take(status, err))
}

// InstalledDiff is what applying a plan would change.
type InstalledDiff struct {
	Diff   Diff   `json:"diff"`
	Engine string `json:"engine"` // which has installed what there is, and as which the plan's rules are written
	Notes  []Note `json:"notes"`  // what could not be read
}

// DiffInstalled says what applying the plan in a network namespace would change; nil stands for that of the process. Rules
// of other programs are not compared.
func (p *Plan) DiffInstalled(netns *os.File) (InstalledDiff, error) {
	defer runtime.KeepAlive(p)
	defer runtime.KeepAlive(netns)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_installed_diff(p.c(), fd(netns), &out, &err)
	return decode[InstalledDiff](out, take(status, err))
}
