package kumatp

/*
#include <kumatp.h>

static kumatp_status plan_simulate(const kumatp_plan *plan, uint32_t engine, _GoString_ packets, kumatp_text **out, kumatp_error **err) {
	return kumatp_plan_simulate(plan, engine, _GoStringPtr(packets), _GoStringLen(packets), out, err);
}
static kumatp_status plan_explain(const kumatp_plan *plan, uint32_t engine, _GoString_ packets, kumatp_text **out, kumatp_error **err) {
	return kumatp_plan_explain(plan, engine, _GoStringPtr(packets), _GoStringLen(packets), out, err);
}
*/
import "C"

import (
	"encoding/json"
	"runtime"
)

// Simulate sends packets through the plan's rules, without a kernel and without root. It returns one outcome for each, in
// the same order. Packets are text, such as
//
//	tcp 10.1.2.3:443 uid 1000
//	inbound tcp [fd00::5]:8080
//	forwarded udp 10.1.2.3:53 from 172.17.0.2:4000 in docker0
//
// or objects in JSON; see kumatp_plan_simulate in kumatp.h. Its error is an [*Error] whose Field is the packet that is not
// valid, such as "packets[1]".
func (p *Plan) Simulate(engine Engine, packets ...string) ([]Outcome, error) {
	defer runtime.KeepAlive(p)
	document, problem := list(packets)
	if problem != nil {
		return nil, problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.plan_simulate(p.c(), C.uint32_t(engine), document, &out, &err)
	return decode[[]Outcome](out, take(status, err))
}

// Explain describes the outcome of the connections and queries that begin with these packets, and of the answers to them.
// The packets are those of [Plan.Simulate].
func (p *Plan) Explain(engine Engine, packets ...string) ([]Explanation, error) {
	defer runtime.KeepAlive(p)
	document, problem := list(packets)
	if problem != nil {
		return nil, problem
	}
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.plan_explain(p.c(), C.uint32_t(engine), document, &out, &err)
	return decode[[]Explanation](out, take(status, err))
}

// Edges returns packets that the plan's rules tell apart, as [Plan.Simulate] takes them: for each rule packets that it is
// for, and packets that differ from those in one thing so that it is not.
func (p *Plan) Edges(engine Engine) ([]string, error) {
	defer runtime.KeepAlive(p)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_plan_edges(p.c(), C.uint32_t(engine), &out, &err)
	return decode[[]string](out, take(status, err))
}

// Diff says what is different in another plan: its rules, and whose traffic it concerns.
func (p *Plan) Diff(after *Plan, engine Engine) (Diff, error) {
	defer runtime.KeepAlive(p)
	defer runtime.KeepAlive(after)
	var out *C.kumatp_text
	var err *C.kumatp_error
	status := C.kumatp_plan_diff(p.c(), after.c(), C.uint32_t(engine), &out, &err)
	return decode[Diff](out, take(status, err))
}

// list makes a document of packets.
func list(packets []string) (string, error) {
	documents := make([]json.RawMessage, 0, len(packets))
	for _, packet := range packets {
		document := json.RawMessage(packet)
		if !json.Valid(document) {
			text, err := json.Marshal(packet)
			if err != nil {
				return "", err
			}
			document = text
		}
		documents = append(documents, document)
	}
	document, err := json.Marshal(documents)
	return string(document), err
}
