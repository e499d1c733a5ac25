/* Configurations of pods, Dataplanes, and what their workloads reach. */
#include "workloads.h"

#include <string.h>

#include "check.h"

#define NUL KUMATP_NUL_TERMINATED

static const char SOURCES[] =
    "{\"pod\": {\"kind\": \"Pod\", \"metadata\": {\"annotations\": {\"traffic.kuma.io/exclude-inbound-ports\": \"8081\", "
    "\"kuma.io/reachable-backends\": \"{}\"}}}, "
    "\"controlPlane\": [\"KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND=15101\", \"PATH=/bin\"], "
    "\"configMap\": \"redirect: {dns: {enabled: true}}\", \"profile\": \"kuma-3\"}";

static const char TEMPLATE[] =
    "type: Dataplane\nname: web\nnetworking:\n  address: {{ address }}\n  inbound: [{port: 80}]\n  transparentProxying:\n"
    "    redirectPortInbound: 15006\n    redirectPortOutbound: 15101\n"
    "    reachableBackends: {refs: [{kind: MeshService, name: redis}]}\n";

static const char QUERY[] =
    "{\"resources\": [{\"type\": \"MeshService\", \"name\": \"redis\", \"spec\": {\"ports\": [{\"port\": 6379}]}}, "
    "\"type: MeshService\\nname: elastic\\nspec: {ports: [{port: 9200}]}\\n\"], \"explain\": [\"elastic\"]}";

/* Two services of the name in the reference, of which Kuma takes one. */
static const char CHANCE[] =
    "{\"resources\": [{\"type\": \"MeshService\", \"name\": \"redis\", \"spec\": {\"ports\": [{\"port\": 6379}]}}, "
    "{\"type\": \"MeshService\", \"name\": \"redis\", \"labels\": {\"kuma.io/zone\": \"east\"}, "
    "\"spec\": {\"ports\": [{\"port\": 6379}]}}], \"transparentProxy\": true}";

/* Checks that a text has a part, and frees it. */
static void has(kumatp_text *text, const char *part)
{
    if (strstr(kumatp_text_data(text), part) == NULL) {
        fprintf(stderr, "not a word of %s in:\n%s\n", part, kumatp_text_data(text));
        exit(1);
    }
    kumatp_text_free(text);
}

/* Checks why a call has failed, and frees the error. */
static void wrong(kumatp_status status, kumatp_status expected, kumatp_error **slot, const char *field, const char *says)
{
    CHECK(*slot != NULL && kumatp_error_status(*slot) == status);
    if (status != expected || strcmp(kumatp_error_field(*slot), field) != 0 || strstr(kumatp_error_message(*slot), says) == NULL) {
        fprintf(stderr, "%s, %s, not a word of %s: %s\n", kumatp_status_name(status), kumatp_error_field(*slot), says,
                kumatp_error_message(*slot));
        exit(1);
    }
    kumatp_error_free(*slot);
    *slot = NULL;
}

static kumatp_dataplane *dataplane(void)
{
    kumatp_text *text = NULL;
    kumatp_dataplane *made = NULL;
    CHECK(kumatp_dataplane_fill(TEMPLATE, NUL, "{\"address\": \"192.0.2.7\"}", NUL, &text, NULL) == KUMATP_OK);
    CHECK(kumatp_dataplane_parse(kumatp_text_data(text), kumatp_text_len(text), KUMATP_FORMAT_YAML, &made, NULL) == KUMATP_OK);
    kumatp_text_free(text);
    return made;
}

static void pods(void)
{
    kumatp_config *config = NULL;
    kumatp_text *report = NULL;
    kumatp_text *text = NULL;
    kumatp_error *error = NULL;

    CHECK(kumatp_config_from_pod(SOURCES, sizeof SOURCES - 1, &config, &report, &error) == KUMATP_OK && error == NULL);
    CHECK(strstr(kumatp_text_data(report), "\"sidecarUid\": 5678") != NULL);
    CHECK(strstr(kumatp_text_data(report), "\"source\": \"annotation traffic.kuma.io/exclude-inbound-ports\"") != NULL);
    has(report, "\"transparentProxying\": {\n    \"reachableBackends\": {}");
    CHECK(kumatp_config_to_annotation(config, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "15101") != NULL);
    has(text, "8081");

    /* Whoever wants no report gets the same configuration. */
    kumatp_config *other = NULL;
    kumatp_text *one = NULL;
    CHECK(kumatp_config_from_pod(SOURCES, NUL, &other, NULL, NULL) == KUMATP_OK);
    CHECK(kumatp_config_to_json(config, &one, NULL) == KUMATP_OK && kumatp_config_to_json(other, &text, NULL) == KUMATP_OK);
    CHECK(strcmp(kumatp_text_data(one), kumatp_text_data(text)) == 0);
    kumatp_text_free(one);
    kumatp_text_free(text);
    kumatp_config_free(other);
    kumatp_config_free(config);

    /* Nothing is written by a call that fails. */
    kumatp_config *const before = (kumatp_config *)&error;
    kumatp_text *const no_report = (kumatp_text *)&error;
    config = before;
    report = no_report;
    wrong(kumatp_config_from_pod("{\"annotations\": {\"kuma.io/gateway\": \"maybe\"}}", NUL, &config, &report, &error),
          KUMATP_E_CONFIG, &error, "kuma.io/gateway", "'maybe'");
    wrong(kumatp_config_from_pod("{\"annotations\": {\"traffic.kuma.io/transparent-proxy-config\": \"storeFirewalld: true\"}}", NUL,
                                 &config, &report, &error),
          KUMATP_E_CONFIG, &error, "traffic.kuma.io/transparent-proxy-config: storeFirewalld", "");
    wrong(kumatp_config_from_pod("{\"pod\": ", NUL, &config, &report, &error), KUMATP_E_ARGUMENT, &error, "sources", "EOF");
    wrong(kumatp_config_from_pod("{}", 2, NULL, &report, &error), KUMATP_E_ARGUMENT, &error, "out", "NULL");
    CHECK(config == before && report == no_report);
}

static void dataplanes(void)
{
    kumatp_dataplane *web = dataplane();
    kumatp_config *config = NULL;
    kumatp_config *defaults = NULL;
    kumatp_text *text = NULL;
    kumatp_error *error = NULL;

    CHECK(kumatp_dataplane_to_json(web, &text, NULL) == KUMATP_OK);
    has(text, "\"isTransparent\": true");
    CHECK(kumatp_config_from_dataplane(web, NULL, &config, NULL) == KUMATP_OK);
    CHECK(kumatp_dataplane_compare(web, config, &text, NULL) == KUMATP_OK);
    CHECK(strcmp(kumatp_text_data(text), "[]\n") == 0);
    kumatp_text_free(text);
    CHECK(kumatp_config_parse("", 0, KUMATP_FORMAT_JSON, &defaults, NULL) == KUMATP_OK);
    CHECK(kumatp_dataplane_compare(web, defaults, &text, NULL) == KUMATP_OK);
    has(text, "\"about\": \"redirect.outbound.port\"");
    CHECK(kumatp_config_to_transparent_proxying(config, &text, NULL) == KUMATP_OK);
    has(text, "\"redirectPortOutbound\": 15101");
    kumatp_config_free(config);
    CHECK(kumatp_config_from_dataplane(web, defaults, &config, NULL) == KUMATP_OK);
    kumatp_config_free(defaults);
    CHECK(kumatp_config_to_json(config, &text, NULL) == KUMATP_OK);
    has(text, "15101");
    kumatp_config_free(config);

    CHECK(kumatp_dataplane_reach(web, QUERY, sizeof QUERY - 1, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "\"port\": 6379") != NULL);
    has(text, "\"why\": \"MeshService elastic is not reachable: ");
    CHECK(kumatp_dataplane_reach(web, CHANCE, sizeof CHANCE - 1, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "\"backends\": []") != NULL);
    has(text, "\"oneOfCount\": 2");
    wrong(kumatp_dataplane_reach(web, "{\"resources\": [{\"type\": \"MeshService\"}]}", NUL, &text, &error), KUMATP_E_CONFIG, &error,
          "resources[0]: name", "the name of the resource");
    kumatp_dataplane_free(web);
    kumatp_dataplane_free(NULL);

    web = NULL;
    wrong(kumatp_dataplane_parse("type: Dataplane\nnetworking: {transparentProxying: {reachableBackends: {refs: "
                                 "[{kind: MeshMulitZoneService, name: a}]}}}",
                                 NUL, KUMATP_FORMAT_YAML, &web, &error),
          KUMATP_E_CONFIG, &error, "networking.transparentProxing.reachableBackends.refs[0].kind", "did you mean 'MeshMultiZoneService'?");
    wrong(kumatp_dataplane_validate("{type: Dataplane, mesh: default, name: a, networking: {address: 0.0.0.0}}", NUL, KUMATP_FORMAT_YAML,
                                    "{\"profile\": \"kuma-3\"}", NUL, &web, &error),
          KUMATP_E_CONFIG, &error, "networking.address", "reach the workload");
    wrong(kumatp_dataplane_validate("{}", NUL, KUMATP_FORMAT_JSON, "{\"profiles\": 1}", NUL, &web, &error), KUMATP_E_ARGUMENT, &error, "query",
          "profiles");
    wrong(kumatp_dataplane_fill(TEMPLATE, NUL, "[\"adress=192.0.2.7\"]", NUL, &text, &error), KUMATP_E_CONFIG, &error, "line 4",
          "did you mean 'adress'?");
    wrong(kumatp_dataplane_fill(TEMPLATE, NUL, "[]]", NUL, &text, &error), KUMATP_E_ARGUMENT, &error, "variables", "line 1");
    CHECK(web == NULL);
}

/* The next of a row of numbers that is the same in every run. */
static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Documents that are nearly right. */
static void nearly(int times)
{
    static const char *const documents[] = {SOURCES, QUERY, TEMPLATE};
    static const char splices[] = "\"{}[],:\\0-1.ut \n\xc3\xa9\xff";
    kumatp_dataplane *web = dataplane();
    uint32_t seed = 1;
    int answered = 0;

    for (int i = 0; i < times; i++) {
        const char *const good = documents[i % 3];
        char document[sizeof SOURCES + sizeof QUERY + sizeof TEMPLATE];
        kumatp_text *text = NULL;
        kumatp_config *config = NULL;
        kumatp_dataplane *read = NULL;
        kumatp_error *error = NULL;
        kumatp_status status;
        size_t length = strlen(good);
        memcpy(document, good, length);
        for (uint32_t changes = next(&seed) % 4; changes > 0; changes--)
            document[next(&seed) % length] = splices[next(&seed) % (sizeof splices - 1)];
        if (next(&seed) % 8 == 0)
            length = next(&seed) % length;
        if (i % 3 == 0) {
            status = kumatp_config_from_pod(document, length, &config, &text, &error);
        } else if (i % 3 == 1) {
            status = kumatp_dataplane_reach(web, document, length, &text, &error);
        } else {
            status = kumatp_dataplane_fill(document, length, "{\"address\": \"192.0.2.7\"}", NUL, &text, &error);
            if (status == KUMATP_OK && i % 2 == 0)
                status = kumatp_dataplane_validate(kumatp_text_data(text), kumatp_text_len(text), KUMATP_FORMAT_YAML, "{}", NUL, &read, &error);
            else if (status == KUMATP_OK)
                status = kumatp_dataplane_parse(kumatp_text_data(text), kumatp_text_len(text), KUMATP_FORMAT_YAML, &read, &error);
        }
        if (status == KUMATP_OK) {
            CHECK(text != NULL && error == NULL);
            answered++;
        } else {
            CHECK(config == NULL && read == NULL && (status == KUMATP_E_CONFIG || status == KUMATP_E_ARGUMENT));
            CHECK(kumatp_error_field(error) != NULL && strlen(kumatp_error_message(error)) > 10);
            kumatp_error_free(error);
        }
        kumatp_text_free(text);
        kumatp_config_free(config);
        kumatp_dataplane_free(read);
    }
    kumatp_dataplane_free(web);
    CHECK(answered > times / 10 && answered < times - times / 10);
}

/* Nested more deeply, and longer, than any document of ours. */
static void large(size_t size)
{
    static const char *const repeated[] = {"[", "{\"pod\":", "\"", "{\"resources\":[", "{{"};
    kumatp_dataplane *web = dataplane();
    kumatp_dataplane *read = NULL;
    kumatp_config *config = NULL;
    kumatp_text *text = NULL;
    kumatp_error *error = NULL;
    char *document = (char *)malloc(size);
    CHECK(document != NULL);
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        for (size_t at = 0; at < size; at++)
            document[at] = repeated[i][at % strlen(repeated[i])];
        kumatp_status const statuses[] = {
            kumatp_config_from_pod(document, size, &config, NULL, NULL),
            kumatp_dataplane_reach(web, document, size, &text, NULL),
            kumatp_dataplane_fill("{{ a }}", NUL, document, size, &text, NULL),
            kumatp_dataplane_parse(document, size, KUMATP_FORMAT_JSON, &read, &error),
        };
        for (size_t call = 0; call < sizeof statuses / sizeof *statuses; call++)
            CHECK(statuses[call] == KUMATP_E_ARGUMENT || statuses[call] == KUMATP_E_CONFIG);
        CHECK(strlen(kumatp_error_message(error)) < 100000);
        kumatp_error_free(error);
        error = NULL;
    }

    /* Inside a document that is whole. */
    size_t length = (size_t)sprintf(document, "{\"pod\": ");
    size_t const depth = (size - length - 1) / 2;
    memset(document + length, '[', depth);
    memset(document + length + depth, ']', depth);
    document[length + 2 * depth] = '}';
    CHECK(kumatp_config_from_pod(document, length + 2 * depth + 1, &config, NULL, &error) == KUMATP_E_CONFIG);
    CHECK(strncmp(kumatp_error_field(error), "pod", 3) == 0 && strlen(kumatp_error_message(error)) < 100000);
    kumatp_error_free(error);
    CHECK(config == NULL && text == NULL && read == NULL);
    free(document);
    kumatp_dataplane_free(web);
}

void workloads(size_t size)
{
    const int cheap = size > 1 << 20;
    pods();
    dataplanes();
    nearly(cheap ? 1200 : 90);
    large(cheap ? 1 << 20 : size);
}
