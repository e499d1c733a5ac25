//go:build cgo

package kumatp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestSimulate(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	object := `{"direction": "inbound", "protocol": "tcp", "destination": "fd00::5", "destinationPort": 22}`
	outcomes, err := plan.Simulate(Netlink, "tcp 10.1.2.3:443 uid 7", object, "icmp 10.1.2.3")
	if must(t, outcomes, err); len(outcomes) != 3 {
		t.Fatal(outcomes)
	}
	if got, want := outcomes[0].Verdict, (Verdict{End: Redirected, Port: 15001}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
	if key := outcomes[1].Key(); outcomes[1].Verdict.End != Delivered || key != "redirect.inbound.excludePorts[0]" {
		t.Errorf("%v", &outcomes[1])
	}
	if outcomes[2].Deciding() != nil || outcomes[2].String() != "delivered as sent\n  no rule matches it" {
		t.Errorf("%v", &outcomes[2])
	}
	if none, err := plan.Simulate(Netlink); err != nil || len(none) != 0 {
		t.Error(none, err)
	}

	var failure *Error
	_, err = plan.Simulate(Netlink, "tcp 10.1.2.3:443", "tcp \"10.1.2.3\"\x00:443")
	if !errors.As(err, &failure) || failure.Status != ErrConfig || failure.Field != "packets[1]" {
		t.Error(err)
	}
	if _, err = plan.Simulate(AllEngines, "tcp 10.1.2.3:443"); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
}

func TestExplain(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	explanations, err := plan.Explain(Iptables, "udp 10.1.2.3:53 uid 7")
	must(t, explanations, err)
	e := explanations[0]
	if !strings.HasPrefix(e.Summary, "A DNS query that uid 7 sends to 10.1.2.3:53 is redirected to port 15053") {
		t.Error(e.Summary)
	}
	if *e.Packet.UID != 7 || e.Packet.Destination.String() != "10.1.2.3" || e.Packet.OutInterface != "eth0" {
		t.Errorf("%+v", e.Packet)
	}
	if e.Reply == nil || e.Reply.Arrival != TranslatedBack || e.Request.Zone != e.Reply.Outcome.Zone {
		t.Errorf("%+v", e.Reply)
	}
}

// Every packet that the rules tell apart comes back as it was sent, through text, object and Go's own.
func TestEdges(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	edges, err := plan.Edges(Netlink)
	if must(t, edges, err); len(edges) < 100 {
		t.Fatal(edges)
	}
	explanations, err := plan.Explain(Netlink, edges...)
	must(t, explanations, err)
	outcomes, err := plan.Simulate(Netlink, edges...)
	must(t, outcomes, err)
	for i, e := range explanations {
		if e.Packet.String() != edges[i] {
			t.Errorf("%s is not %s", e.Packet, edges[i])
		}
		if !reflect.DeepEqual(e.Request, outcomes[i]) {
			t.Errorf("%s: %v", edges[i], &outcomes[i])
		}
	}
}

func TestSaved(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	rules, err := plan.Render(IptablesRestore, Both)
	must(t, rules, err)
	explanations, err := ExplainSaved(rules, "tcp 10.1.2.3:443 uid 7", "inbound tcp [fd00::5]:22")
	must(t, explanations, err)
	if got, want := explanations[0].Request.Verdict, (Verdict{End: Redirected, Port: 15001}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
	if explanations[1].Request.Verdict.End != Delivered {
		t.Errorf("%v", &explanations[1].Request)
	}
	same, err := plan.DiffSaved(rules)
	if must(t, same, err); !same.Empty() {
		t.Error(&same)
	}
	diff, err := plan.DiffSaved(strings.ReplaceAll(rules, "--dport 22 ", "--dport 23 "))
	if must(t, diff, err); len(diff.Removed) != 2 || diff.Removed[0].Rule != "-p tcp --dport 23 -j RETURN" {
		t.Error(&diff)
	}

	var failure *Error
	_, err = ExplainSaved("*nat\nCOMMIT\n", "icmp 10.1.2.3", "icmpv6 fd00::5")
	if !errors.As(err, &failure) || failure.Status != ErrConfig || failure.Field != "packets[1]" {
		t.Error(err)
	}
	if _, err = plan.DiffSaved("*nat\n"); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestInstalled(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	netns := newNamespace(t)
	defer netns.Close()
	looks := func(end End, differs bool) {
		t.Helper()
		answers, err := ExplainInstalled(netns, "tcp 10.1.2.3:443 uid 7", "icmp 10.1.2.3")
		if must(t, answers, err); len(answers.Answers) != 2 || len(answers.Notes) != 0 {
			t.Fatalf("%+v", answers)
		}
		if got := answers.Answers[0].Request.Verdict.End; got != end {
			t.Errorf("%v, not %v", got, end)
		}
		diff, err := plan.DiffInstalled(netns)
		if must(t, diff, err); diff.Diff.Empty() == differs || diff.Engine != "netlink" {
			t.Errorf("%s: %v", diff.Engine, &diff.Diff)
		}
	}
	looks(Delivered, true)
	report, err := plan.Apply(Netlink, netns)
	must(t, report, err)
	looks(Redirected, false)
	if _, err := ExplainInstalled(netns, "tcp 10.1.2.3"); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	same, err := plan.Diff(plan, Netlink)
	if must(t, same, err); !same.Empty() || same.String() != "no difference" {
		t.Error(&same)
	}
	config, err := ParseConfig(strings.Replace(document, "[22]", "[23]", 1), YAML)
	must(t, config, err)
	defer config.Close()
	facts, err := CapableHost(5678)
	must(t, facts, err)
	defer facts.Close()
	other, err := NewPlan(config, facts)
	must(t, other, err)
	defer other.Close()
	diff, err := plan.Diff(other, Netlink)
	must(t, diff, err)
	for _, line := range []string{
		"- ipv4 nat KUMA_MESH_INBOUND: -p tcp --dport 22 -j RETURN  # redirect.inbound.excludePorts[0]",
		"+ ipv6 nat KUMA_MESH_INBOUND: -p tcp --dport 23 -j RETURN  # redirect.inbound.excludePorts[0]",
		"    before: delivered as sent (redirect.inbound.excludePorts[0])",
		"    after:  redirected to port 15006 (redirect.inbound.enabled)",
	} {
		if !strings.Contains(diff.String(), line) {
			t.Errorf("nothing of %q in:\n%v", line, &diff)
		}
	}
	if len(diff.Traffic) == 0 || diff.Traffic[0].Tried == 0 {
		t.Error(&diff)
	}
}
