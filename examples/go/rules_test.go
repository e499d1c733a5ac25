//go:build cgo

package main_test

import (
	"testing"

	"example.com/kumatp"
	"example.com/kumatp/kumatptest"
)

// Metrics are fetched past the sidecar, SSH is left alone, and all else is redirected.
const rules = `
redirect:
  inbound: {excludePorts: [22]}
  outbound: {excludePorts: [9000-9100]}
`

func TestRules(t *testing.T) {
	rules := kumatptest.New(t, rules)
	rules.Expect(t, "tcp 10.1.2.3:9042 uid 1000").Delivered().Because("redirect.outbound.excludePorts[0]")
	rules.Expect(t, "tcp 10.1.2.3:443 uid 1000").RedirectedTo(15001).Because("redirect.outbound.enabled").Answered()
	rules.Expect(t, "tcp 10.1.2.3:443 uid 5678").Delivered() // the sidecar's own
	rules.Expect(t, "inbound tcp 10.0.0.5:22").Delivered().Because("redirect.inbound.excludePorts")
	rules.Expect(t, "inbound tcp [fd00::5]:8080").RedirectedTo(15006)
}

// A change of the configuration concerns the ports that it is for, and nobody else.
func TestChange(t *testing.T) {
	before := kumatptest.New(t, rules)
	after := kumatptest.New(t, rules+"  dns: {enabled: true, captureAll: true}\n")
	diff, err := before.Plan.Diff(after.Plan, kumatp.Netlink)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range diff.Traffic {
		if change.Example.DestinationPort != 53 && change.Example.SourcePort != 53 && change.Example.SourcePort != 15053 {
			t.Errorf("not only DNS changes:\n%v", &diff)
		}
	}
}
