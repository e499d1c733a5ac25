//go:build cgo

package kumatp

import (
	"fmt"
	"net/netip"
	"strings"
)

// End is how the way of a packet ends.
type End string

// The ends.
const (
	Delivered   End = "delivered"   // it goes where it was sent
	Redirected  End = "redirected"  // it goes to a port of this host
	Dropped     End = "dropped"     // it is gone
	Established End = "established" // it goes where its connection goes, which was decided when that began
	Undecided   End = "undecided"   // a part of the rules is not known, and the answer depends on it
)

// Verdict says where a packet ends. Verdicts can be compared by ==.
type Verdict struct {
	End    End    `json:"end"`
	Port   uint16 `json:"port"`   // of Redirected
	Reason string `json:"reason"` // of Undecided
}

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v.End {
	case Delivered:
		return "delivered as sent"
	case Redirected:
		return fmt.Sprintf("redirected to port %d", v.Port)
	case Established:
		return "delivered as its connection is"
	case Undecided:
		return "undecided: " + v.Reason
	}
	return string(v.End)
}

// Outcome is the outcome of a packet.
type Outcome struct {
	Verdict   Verdict   `json:"verdict"`
	Zone      uint16    `json:"zone"` // the conntrack zone that it is tracked in
	Log       []LogLine `json:"log"`
	Trace     []Step    `json:"trace"`     // the rules that matched, in order
	DecidedBy *int      `json:"decidedBy"` // the step of the trace that decided; nil if no rule concerns the packet
}

// LogLine is a line in the kernel log.
type LogLine struct {
	Prefix string `json:"prefix"`
	Level  uint8  `json:"level"`
}

// Step is a rule that matched.
type Step struct {
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Number  int    `json:"number"` // in its chain, from 1; 0 for what is no rule of the plan
	Rule    string `json:"rule"`   // its text; empty where there is no number
	Effect  string `json:"effect"` // what it did, such as "called" or "redirected"
	Purpose string `json:"purpose"`
	Key     string `json:"key"` // the configuration key that asked for it; may be empty
}

// String returns the step as a line: "nat OUTPUT 3: -p tcp -j RETURN  # what for (key)".
func (s Step) String() string {
	line := s.Table + " " + s.Chain
	if s.Number != 0 {
		line += fmt.Sprintf(" %d: %s", s.Number, s.Rule)
	}
	switch {
	case s.Purpose != "" && s.Key != "":
		line += fmt.Sprintf("  # %s (%s)", s.Purpose, s.Key)
	case s.Purpose+s.Key != "":
		line += "  # " + s.Purpose + s.Key
	}
	return line
}

// Deciding returns the rule that decided; nil if no rule concerns the packet.
func (o *Outcome) Deciding() *Step {
	if o.DecidedBy == nil {
		return nil
	}
	return &o.Trace[*o.DecidedBy]
}

// Key returns the configuration key that the deciding rule came from; empty if there is none.
func (o *Outcome) Key() string {
	if step := o.Deciding(); step != nil {
		return step.Key
	}
	return ""
}

// String returns the verdict and the trace.
func (o *Outcome) String() string {
	var text strings.Builder
	text.WriteString(o.Verdict.String())
	if o.Zone != 0 {
		fmt.Fprintf(&text, ", tracked in zone %d", o.Zone)
	}
	for _, line := range o.Log {
		fmt.Fprintf(&text, ", logged with %q", line.Prefix)
	}
	if len(o.Trace) == 0 {
		text.WriteString("\n  no rule matches it")
	}
	for i, step := range o.Trace {
		mark := ' '
		if o.DecidedBy != nil && *o.DecidedBy == i {
			mark = '>'
		}
		fmt.Fprintf(&text, "\n%c %s", mark, step)
	}
	return text.String()
}

// Explanation describes the outcome of a connection or a query.
type Explanation struct {
	Summary string  `json:"summary"` // a paragraph to read
	Packet  Packet  `json:"packet"`
	Request Outcome `json:"request"`
	Reply   *Reply  `json:"reply"` // nil where no answer is to be expected
}

// Arrival is whether an answer comes to who asked.
type Arrival string

// Whether it comes.
const (
	AsSent         Arrival = "asSent"         // from where the request was sent, which it was sent from indeed
	TranslatedBack Arrival = "translatedBack" // seemingly from where the request was sent, although that was redirected
	Lost           Arrival = "lost"
)

// Reply is the answer to a request.
type Reply struct {
	Packet  Packet  `json:"packet"`
	Outcome Outcome `json:"outcome"`
	Arrival Arrival `json:"arrival"`
	Reason  string  `json:"reason"` // why it is Lost
}

// Packet is a packet as netfilter meets it first.
type Packet struct {
	Direction       string     `json:"direction"` // "outbound", "inbound" or "forwarded"
	Protocol        string     `json:"protocol"`
	Destination     netip.Addr `json:"destination"`
	DestinationPort uint16     `json:"destinationPort"` // 0 if the protocol has none
	Source          netip.Addr `json:"source"`
	SourcePort      uint16     `json:"sourcePort"`
	UID             *uint32    `json:"uid"` // nil without a socket on this host
	GID             *uint32    `json:"gid"`
	NoSocket        bool       `json:"noSocket"` // made by the kernel itself
	InInterface     string     `json:"inInterface"`
	OutInterface    string     `json:"outInterface"`
	Tracking        string     `json:"tracking"` // "new", "midstream", "lost", "lostanswer", "reused", "established" or "invalid"
}

// String returns the packet as [Plan.Simulate] takes it.
func (p Packet) String() string {
	end := func(addr netip.Addr, port uint16) string {
		if port == 0 {
			return addr.String()
		}
		return netip.AddrPortFrom(addr, port).String()
	}
	words := []string{p.Direction, p.Protocol, end(p.Destination, p.DestinationPort), "from", end(p.Source, p.SourcePort)}
	if p.UID != nil {
		words = append(words, fmt.Sprint("uid ", *p.UID))
	}
	if p.GID != nil {
		words = append(words, fmt.Sprint("gid ", *p.GID))
	}
	if p.NoSocket {
		words = append(words, "no-socket")
	}
	if p.InInterface != "" {
		words = append(words, "in", p.InInterface)
	}
	if p.OutInterface != "" {
		words = append(words, "out", p.OutInterface)
	}
	if p.Tracking != "new" {
		words = append(words, p.Tracking)
	}
	return strings.Join(words, " ")
}

// Diff is what is different between two plans, or what is there and a plan.
type Diff struct {
	Removed   []Listed `json:"removed"`   // the rules that only the first plan has
	Added     []Listed `json:"added"`     // the rules that only the second plan has
	Reordered []Listed `json:"reordered"` // the chains whose common rules come in another order
	Traffic   []Change `json:"traffic"`   // whose traffic changes: a class of packets each
}

// Listed is a rule, or a chain, of one of the plans.
type Listed struct {
	Family string `json:"family"` // "ipv4" or "ipv6"
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Rule   string `json:"rule"` // empty for a chain as a whole
	Key    string `json:"key"`  // may be empty
}

// Change is packets that the two plans treat in different ways, by an example.
type Change struct {
	Example Packet `json:"example"`
	Tried   int    `json:"tried"` // how many of the packets that were tried are like this
	Before  Fate   `json:"before"`
	After   Fate   `json:"after"`
}

// Fate is the outcome of a packet.
type Fate struct {
	Verdict Verdict `json:"verdict"`
	Zone    uint16  `json:"zone"`
	Log     int     `json:"log"` // lines in the kernel log
	Key     string  `json:"key"` // of the rule that decided; may be empty
}

// Empty tells whether the plans are the same.
func (d *Diff) Empty() bool {
	return len(d.Removed)+len(d.Added)+len(d.Reordered)+len(d.Traffic) == 0
}

// String returns the difference as text to read, a line for each rule and three for each change of traffic.
func (d *Diff) String() string {
	if d.Empty() {
		return "no difference"
	}
	var lines []string
	list := func(sign string, rules []Listed) {
		for _, rule := range rules {
			line := strings.Join([]string{sign, rule.Family, rule.Table, rule.Chain}, " ")
			if rule.Rule != "" {
				line += ": " + rule.Rule
			}
			if rule.Key != "" {
				line += "  # " + rule.Key
			}
			lines = append(lines, line)
		}
	}
	list("-", d.Removed)
	list("+", d.Added)
	list("~", d.Reordered)
	for _, change := range d.Traffic {
		lines = append(lines, "  "+change.Example.String(), "    before: "+change.Before.String(), "    after:  "+change.After.String())
	}
	return strings.Join(lines, "\n")
}

// String returns the fate in words.
func (f Fate) String() string {
	text := f.Verdict.String()
	if f.Zone != 0 {
		text += fmt.Sprintf(", zone %d", f.Zone)
	}
	if f.Log != 0 {
		text += ", logged"
	}
	if f.Key != "" {
		text += " (" + f.Key + ")"
	}
	return text
}
