package kumatptest

import (
	"fmt"
	"strings"
	"testing"

	"example.com/kumatp"
)

// failing records what a test would have been told.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, values ...any) {
	f.said = append(f.said, fmt.Sprintf(format, values...))
}

func (f *failing) Fatalf(format string, values ...any) {
	f.Errorf(format, values...)
	panic(f)
}

const document = `
redirect:
  outbound: {excludePorts: [9000]}
  dns: {enabled: true, captureAll: true}
dropInvalidPackets: true
log: {enabled: true}
`

func TestWhatHolds(t *testing.T) {
	rules := New(t, document)
	rules.Expect(t, "tcp 10.1.2.3:9000").Delivered().Because("redirect.outbound.excludePorts").Logged(1).Answered()
	rules.Expect(t, "udp 10.1.2.3:53").RedirectedTo(15053).InZone(2).Answered()
	rules.Expect(t, "inbound tcp 10.0.0.5:80 invalid").Dropped().Because("dropInvalidPackets")
	rules.Expect(t, "tcp 10.1.2.3:443 established").Ends(kumatp.Verdict{End: kumatp.Established})
	rules.Expect(t, "tcp 10.1.2.3:443 midstream").RedirectedTo(15001).Logged(1)
	rules.Expect(t, "tcp 10.1.2.3:443 reused").Dropped()
	Of(rules.Plan, kumatp.Iptables).Expect(t, "tcp 10.1.2.3:443 reused").Delivered()
	summary := rules.Expect(t, "tcp [fd00::1]:443 uid 7").RedirectedTo(15001).Explanation().Summary
	if !strings.HasPrefix(summary, "A TCP connection that uid 7 opens to [fd00::1]:443 is redirected to port 15001") {
		t.Error(summary)
	}
}

func TestWhatDoesNotHoldShowsTheTrace(t *testing.T) {
	rules := New(t, document)
	for name, test := range map[string]struct {
		expect func(*failing)
		parts  []string
	}{
		"verdict": {
			func(f *failing) { rules.Expect(f, "tcp 10.1.2.3:9000").RedirectedTo(15001).Because("nothing") },
			[]string{"packet:   outbound tcp 10.1.2.3:9000 from", "expected: redirected to port 15001", "got:      delivered as sent, logged with", "> nat KUMA_MESH_OUTBOUND 1: -p tcp --dport 9000 -j RETURN", "(redirect.outbound.excludePorts[0])"},
		},
		"port": {func(f *failing) { rules.Expect(f, "tcp 10.1.2.3:443").RedirectedTo(15006) }, []string{"redirected to port 15001"}},
		"key": {func(f *failing) {
			rules.Expect(f, "tcp 10.1.2.3:9000").Delivered().Because("redirect.outbound.excludePorts[1]")
		}, []string{"expected: a rule from redirect.outbound.excludePorts[1]"}},
		"none":  {func(f *failing) { rules.Expect(f, "icmp 10.1.2.3").Delivered().Because("") }, []string{"expected: a rule from "}},
		"zone":  {func(f *failing) { rules.Expect(f, "udp 10.1.2.3:53").RedirectedTo(15053).InZone(1) }, []string{"expected: zone 1", "tracked in zone 2"}},
		"log":   {func(f *failing) { rules.Expect(f, "tcp 10.1.2.3:443 midstream").RedirectedTo(15001).Logged(0) }, []string{"logged with"}},
		"reply": {func(f *failing) { rules.Expect(f, "tcp 10.1.2.3:443").RedirectedTo(15001).Unanswered() }, []string{"an answer that does not arrive"}},
		"drop":  {func(f *failing) { rules.Expect(f, "tcp 10.1.2.3:443").Dropped().Answered() }, []string{"expected: dropped"}},
	} {
		f := &failing{TB: t}
		test.expect(f)
		if len(f.said) != 1 {
			t.Errorf("%s: %d errors: %v", name, len(f.said), f.said)
			continue
		}
		for _, part := range test.parts {
			if !strings.Contains(f.said[0], part) {
				t.Errorf("%s: nothing of %q in:%s", name, part, f.said[0])
			}
		}
	}

	f := &failing{TB: t}
	defer func() {
		if recover() != f || !strings.Contains(f.said[0], "'10.1.2.3'") {
			t.Errorf("what is no packet: %v", f.said)
		}
	}()
	rules.Expect(f, "tcp 10.1.2.3")
}
