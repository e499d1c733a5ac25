// Package kumatptest is for tests of rules: they explain packets, without a kernel and without root.
package kumatptest

import (
	"fmt"
	"strings"
	"testing"

	"example.com/kumatp"
)

// Rules are rules that packets can be sent through.
type Rules struct {
	Plan   *kumatp.Plan
	engine kumatp.Engine
}

// New makes the rules that a configuration document, YAML or JSON, asks for on a host that can do everything, where the
// sidecar runs as user 5678, and the netlink engine has installed them. They are given back when the test ends.
func New(t testing.TB, document string) *Rules {
	t.Helper()
	config, err := kumatp.ParseConfig(document, kumatp.YAML)
	if err != nil {
		t.Fatal(err)
	}
	defer config.Close()
	facts, err := kumatp.CapableHost(5678)
	if err != nil {
		t.Fatal(err)
	}
	defer facts.Close()
	plan, err := kumatp.NewPlan(config, facts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plan.Close)
	return Of(plan, kumatp.Netlink)
}

// Of makes rules of a plan for another host, or for another engine. The plan stays the caller's.
func Of(plan *kumatp.Plan, engine kumatp.Engine) *Rules {
	return &Rules{plan, engine}
}

// Expect begins a statement about the outcome of a packet, such as "tcp 10.1.2.3:443 uid 1000": the methods behind it
// report an error if something else does, and then show the rules that the packet met.
func (r *Rules) Expect(t testing.TB, packet string) *Expectation {
	t.Helper()
	explanations, err := r.Plan.Explain(r.engine, packet)
	if err != nil {
		t.Fatalf("%q is no packet: %v", packet, err)
	}
	return &Expectation{t, &explanations[0]}
}

// Expectation is what became of a packet, to be compared with what should.
type Expectation struct {
	t           testing.TB
	explanation *kumatp.Explanation
}

// Delivered expects that it is not redirected.
func (e *Expectation) Delivered() *Matched {
	e.t.Helper()
	return e.Ends(kumatp.Verdict{End: kumatp.Delivered})
}

// RedirectedTo expects that it is redirected to this port of the host.
func (e *Expectation) RedirectedTo(port uint16) *Matched {
	e.t.Helper()
	return e.Ends(kumatp.Verdict{End: kumatp.Redirected, Port: port})
}

// Dropped expects that it is dropped.
func (e *Expectation) Dropped() *Matched {
	e.t.Helper()
	return e.Ends(kumatp.Verdict{End: kumatp.Dropped})
}

// Ends expects that it ends like this.
func (e *Expectation) Ends(verdict kumatp.Verdict) *Matched {
	e.t.Helper()
	m := &Matched{Expectation: e}
	return m.compare(e.explanation.Request.Verdict == verdict, verdict.String())
}

// Matched is a packet that ended as expected, and what else may be expected of it. After an error, nothing more is compared.
type Matched struct {
	*Expectation
	failed bool
}

// Because expects that the rule that decided came from this configuration key: "redirect.outbound.excludePorts[2]", or
// without the number for any item of a list.
func (m *Matched) Because(key string) *Matched {
	m.t.Helper()
	of := m.explanation.Request.Key()
	whole, _, _ := strings.Cut(of, "[")
	return m.compare(key != "" && (of == key || whole == key), "a rule from "+key)
}

// InZone expects that it is tracked in this conntrack zone.
func (m *Matched) InZone(zone uint16) *Matched {
	m.t.Helper()
	return m.compare(m.explanation.Request.Zone == zone, fmt.Sprint("zone ", zone))
}

// Logged expects that it leaves this many lines in the kernel log.
func (m *Matched) Logged(lines int) *Matched {
	m.t.Helper()
	return m.compare(len(m.explanation.Request.Log) == lines, fmt.Sprint(lines, " lines in the kernel log"))
}

// Answered expects that its answer comes to who asked.
func (m *Matched) Answered() *Matched {
	m.t.Helper()
	reply := m.explanation.Reply
	return m.compare(reply != nil && reply.Arrival != kumatp.Lost, "an answer that arrives")
}

// Unanswered expects that its answer does not come to who asked.
func (m *Matched) Unanswered() *Matched {
	m.t.Helper()
	reply := m.explanation.Reply
	return m.compare(reply != nil && reply.Arrival == kumatp.Lost, "an answer that does not arrive")
}

// Explanation returns all that is known of it.
func (m *Matched) Explanation() *kumatp.Explanation { return m.explanation }

func (m *Matched) compare(holds bool, expected string) *Matched {
	m.t.Helper()
	if holds || m.failed {
		return m
	}
	m.failed = true
	e := m.explanation
	lost := ""
	if e.Reply != nil && e.Reply.Arrival == kumatp.Lost {
		lost = fmt.Sprintf("\nreply:    %v\nlost:     %s\n%v", e.Reply.Packet, e.Reply.Reason, &e.Reply.Outcome)
	}
	m.t.Errorf("\npacket:   %v\nexpected: %s\ngot:      %v%s", e.Packet, expected, &e.Request, lost)
	return m
}
