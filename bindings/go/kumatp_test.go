//go:build cgo

package kumatp

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const document = `
redirect:
  inbound: {excludePorts: [22]}
  dns: {enabled: true, captureAll: true}
`

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func newPlan(t *testing.T) *Plan {
	t.Helper()
	config, err := ParseConfig(document, YAML)
	must(t, config, err)
	defer config.Close()
	facts, err := CapableHost(5678)
	must(t, facts, err)
	defer facts.Close()
	plan, err := NewPlan(config, facts)
	return must(t, plan, err)
}

func TestRender(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	for syntax, part := range map[Syntax]string{
		IptablesRestore: "-N KUMA_MESH_INBOUND",
		NftScript:       "table ip6 kuma-mesh",
		FirewalldXML:    "<direct>",
		RulesJSON:       `"redirect.inbound.excludePorts[0]"`,
		Mermaid:         "flowchart TD",
		Dot:             "digraph kumatp {",
	} {
		rules, err := plan.Render(syntax, Both)
		if must(t, rules, err); !strings.Contains(rules, part) {
			t.Errorf("nothing of %s in:\n%s", part, rules)
		}
	}
	if _, err := plan.Render(RulesJSON, IPv4); !errors.Is(err, ErrUnsupported) {
		t.Errorf("one family as JSON: %v", err)
	}
	if notes, err := plan.Notes(); err != nil || len(notes) != 0 {
		t.Errorf("notes: %v, %v", notes, err)
	}
}

// The library may have been built without the engine, and then says so.
func TestEbpf(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	text, err := plan.Render(EbpfText, Both)
	if errors.Is(err, ErrUnsupported) {
		if err = plan.CheckBy(Ebpf, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("checked by an engine that is not there: %v", err)
		}
		if _, err = plan.Apply(Ebpf, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("applied by an engine that is not there: %v", err)
		}
	} else if must(t, text, err); !strings.Contains(text, "cgroup/connect4") {
		t.Errorf("no programs in:\n%s", text)
	}
	// Packets need no engine.
	for engine, end := range map[Engine]End{Netlink: "redirected", Ebpf: "delivered"} {
		outcomes, err := plan.Simulate(engine, "forwarded tcp 10.1.2.3:443 in docker0")
		if must(t, outcomes, err); outcomes[0].Verdict.End != end {
			t.Errorf("engine %d: %+v", engine, outcomes[0].Verdict)
		}
	}
}

func TestErrors(t *testing.T) {
	_, err := ParseConfig("redirect: {inbound: {port: 70000}, dns: {port: -1}}", YAML)
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%T: %v", err, err)
	}
	if failure.Status != ErrConfig || failure.Field != "redirect.inbound.port" || len(failure.Problems) != 2 {
		t.Errorf("%+v", failure)
	}
	if !errors.Is(err, ErrConfig) || errors.Is(err, ErrFacts) || ErrConfig.Error() != "KUMATP_E_CONFIG" {
		t.Errorf("%v is not what it says", err)
	}
	check, err := CheckConfig("redirect: {inbound: {prot: 1}}", YAML)
	if must(t, check, err); !check.Valid || len(check.Notes) != 1 || !strings.Contains(check.Notes[0].Text, "prot") {
		t.Errorf("%+v", check)
	}

	// What the sidecar's own program refuses, and the form that it reads.
	check, err = CheckConfig("redirect: {inbound: {port: '15106'}}", YAML)
	if must(t, check, err); len(check.Kuma) != 1 || !check.Kuma[0].Refused || check.Kuma[0].Programs[0] != "kuma-dp" {
		t.Errorf("%+v", check)
	}
	config, err := ParseConfig("ipFamilyMode: required", YAML)
	must(t, config, err)
	defer config.Close()
	other, err := config.ForKuma()
	must(t, other, err)
	defer other.Close()
	if document, err := other.JSON(); err != nil || !strings.Contains(document, "dualstack") {
		t.Errorf("%s %v", document, err)
	}

	// A file that is no network namespace: the errno comes through.
	plan := newPlan(t)
	defer plan.Close()
	null, err := os.Open("/dev/null")
	must(t, null, err)
	defer null.Close()
	if _, err = plan.Apply(Netlink, null); !errors.Is(err, ErrOS) || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestStringsOfGo(t *testing.T) {
	// Neither has a NUL at its end, and both are parts of longer ones.
	config, err := ParseConfig(document[:0], JSON)
	must(t, config, err).Close()
	whole := `{"redirect": {"dns": {"enabled": true}}}}}}}`
	config, err = ParseConfig(whole[:40], JSON)
	must(t, config, err)
	json, err := config.JSON()
	if must(t, json, err); !strings.Contains(json, "15006") {
		t.Error(json)
	}
	config.Close()
	config.Close()
	defer func() {
		if recover() == nil {
			t.Error("a closed configuration was used")
		}
	}()
	_, _ = config.JSON()
}

func TestFacts(t *testing.T) {
	facts, err := CapableHost(1234)
	must(t, facts, err)
	json, err := facts.JSON()
	must(t, json, err)
	again, err := ParseFacts(json)
	must(t, again, err)
	if same, err := again.JSON(); err != nil || same != json {
		t.Errorf("%s is not %s", same, json)
	}
	facts.Close()
	again.Close()
	if _, err := ParseFacts("{}"); !errors.Is(err, ErrFacts) {
		t.Error(err)
	}
}

// Sixty-four goroutines share handles, and leave some to the garbage collector.
func TestGoroutines(t *testing.T) {
	shared := newPlan(t)
	want, err := shared.Render(NftScript, Both)
	must(t, want, err)
	config, err := ParseConfig(document, YAML)
	must(t, config, err)
	facts, err := CapableHost(5678)
	must(t, facts, err)
	var group sync.WaitGroup
	for range 64 {
		group.Add(1)
		go func() {
			defer group.Done()
			for range 4 {
				if rules, err := shared.Render(NftScript, Both); err != nil || rules != want {
					t.Errorf("rendered differently: %v", err)
				}
				own, err := NewPlan(config, facts)
				if err != nil {
					t.Error(err)
					return
				}
				if rules, err := own.Render(NftScript, Both); err != nil || rules != want {
					t.Errorf("planned differently: %v", err)
				}
			}
			runtime.GC()
		}()
	}
	group.Wait()
	facts.Close()
	config.Close()
	shared.Close()
}

// newNamespace makes a network namespace on a thread that ends with its goroutine.
func newNamespace(t *testing.T) *os.File {
	t.Helper()
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use to others
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		made <- result{file, err}
	}()
	r := <-made
	if errors.Is(r.err, syscall.EPERM) {
		if os.Getenv("KUMATP_REQUIRE_ALL") == "1" {
			t.Fatal("skipped: namespaces cannot be made here")
		}
		t.Skip("skipped: namespaces cannot be made here")
	}
	return must(t, r.file, r.err)
}

// Several goroutines work in several network namespaces at once, and none is locked to a thread.
func TestNamespaces(t *testing.T) {
	plan := newPlan(t)
	defer plan.Close()
	dry, err := ParseConfig("dryRun: true", YAML)
	if err != nil {
		t.Fatal(err)
	}
	defer dry.Close()
	var namespaces []*os.File
	for range 4 {
		namespaces = append(namespaces, newNamespace(t))
	}
	var group sync.WaitGroup
	for _, netns := range namespaces {
		group.Add(1)
		go func() {
			defer group.Done()
			defer netns.Close()
			step := func(name string, want State, changed bool, work func() (Report, error)) {
				report, err := work()
				if err != nil || report.Changed != changed {
					t.Errorf("%s: %+v, %v", name, report, err)
				}
				if state, err := plan.State(netns); err != nil || state != want {
					t.Errorf("after %s: %v, %v", name, state, err)
				}
			}
			apply := func() (Report, error) { return plan.Apply(Netlink, netns) }
			uninstall := func() (Report, error) { return Uninstall(Netlink, netns) }
			if err := plan.Check(netns); err != nil {
				t.Error(err)
			}
			step("uninstall of nothing", Absent, false, uninstall)
			step("apply", Current, true, apply)
			step("the same again", Current, false, apply)
			step("uninstall in words", Current, false, func() (Report, error) { return dry.Uninstall(Netlink, netns) })
			step("uninstall", Absent, true, uninstall)
		}()
	}
	group.Wait()
}
