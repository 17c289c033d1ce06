// A client of openapi-typescript and openapi-fetch, compiled strictly and used on a real node.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

declare const process: { argv: string[]; exit(code: number): never };

const [url, key] = process.argv.slice(2);
const open = createClient<paths>({ baseUrl: url });
const admin = createClient<paths>({ baseUrl: url, headers: { "X-API-Key": key } });

function must<T>(value: T | undefined, what: unknown): T {
  if (value === undefined) throw new Error(JSON.stringify(what));
  return value;
}

async function use(): Promise<void> {
  const rule = await admin.POST("/v1/admin/rules", { body: { client_id: "typescript", rate: 3, window: 60 } });
  const stored: number = must(rule.data, rule.error).id;

  // Another worker hears of the rule a little later; requests one after another use one connection, so one worker.
  for (let looks = 0, by: unknown; by !== stored && looks < 1000; looks++) {
    const look = await open.POST("/v1/check", { body: { client_id: "typescript", cost: 0 } });
    by = must(look.data, look.error).rule_id;
  }
  const check = await open.POST("/v1/check", { body: { client_id: "typescript" } });
  const decision: components["schemas"]["Decision"] = must(check.data, check.error);
  const by: number | "default" = decision.rule_id;
  const reason: "within_limit" | string = decision.reason;

  const again = { client_id: "typescript", request_id: "once" };
  const batch = await open.POST("/v1/check/batch", { body: { checks: [again, { ...again, cost: 2 }] } });
  const said = must(batch.data, batch.error).results.map((result) =>
    "error" in result ? result.error.type : result.remaining,
  );

  const refused = await open.POST("/v1/check", { body: { client_id: "" } });
  const status: number = must(refused.error, refused.data).status;

  const rules = await admin.GET("/v1/admin/rules", { params: { query: { client_id: "typescript" } } });
  const listed: (string | null)[] = must(rules.data, rules.error).map((each) => each.client_id);
  console.log(JSON.stringify({ same: by === stored, reason, said, status, listed }));
}

use().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
