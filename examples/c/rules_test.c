/* Unit tests of rules. Exit status: 0 if they are as they should be. */
#include "expect.h"

/* Metrics are fetched past the sidecar, SSH is left alone, and all else is redirected. */
static const char rules[] =
    "redirect:\n"
    "  inbound: {excludePorts: [22]}\n"
    "  outbound: {excludePorts: [9000-9100]}\n";

int main(void)
{
    kumatp_config *config = NULL;
    kumatp_facts *facts = NULL;
    kumatp_plan *plan = NULL;
    kumatp_error *error = NULL;

    /* A host that can do everything, where the sidecar runs as user 5678. */
    if (kumatp_config_parse(rules, KUMATP_NUL_TERMINATED, KUMATP_FORMAT_YAML, &config, &error) != KUMATP_OK
        || kumatp_facts_capable_host(5678, &facts, &error) != KUMATP_OK
        || kumatp_plan_build(config, facts, &plan, &error) != KUMATP_OK) {
        fprintf(stderr, "%s\n", kumatp_error_message(error));
        return 2;
    }

    EXPECT_DELIVERED(plan, "tcp 10.1.2.3:9042 uid 1000", "redirect.outbound.excludePorts[0]");
    EXPECT_REDIRECTED(plan, "tcp 10.1.2.3:443 uid 1000", 15001, "redirect.outbound.enabled");
    EXPECT_DELIVERED(plan, "tcp 10.1.2.3:443 uid 5678", NULL); /* the sidecar's own */
    EXPECT_DELIVERED(plan, "inbound tcp 10.0.0.5:22", "redirect.inbound.excludePorts");
    EXPECT_REDIRECTED(plan, "inbound tcp [fd00::5]:8080", 15006, NULL);

    kumatp_plan_free(plan);
    kumatp_facts_free(facts);
    kumatp_config_free(config);
    return expect_failures != 0;
}
