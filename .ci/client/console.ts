// What the admin console does in a day, written against types that are made from the API's description.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Job = components["schemas"]["Job"];

const api = createClient<paths>({ baseUrl: "http://localhost:3001" });

async function login(email: string, password: string): Promise<string> {
  const { data, error } = await api.POST("/api/auth/login", { body: { email, password } });
  if (error) throw new Error(error.message);
  return data.data.token;
}

async function certifyAll(token: string, regions: string[]): Promise<string> {
  const { data, error } = await api.POST("/api/certification-queue/certify-all", {
    body: { regions, tier: "quick" },
    headers: { Authorization: `Bearer ${token}` },
  });
  if (error) throw new Error("errorCode" in error ? `${error.errorCode}: ${error.message}` : error.requestId);
  return data.data.jobId;
}

async function job(jobId: string): Promise<Job> {
  const { data, error } = await api.GET("/api/certification-queue/jobs/{job_id}", {
    params: { path: { job_id: jobId } },
  });
  if (error) throw new Error(error.message);
  return data.data;
}

export async function day(): Promise<void> {
  const token = await login("ana@example.org", "secret");
  let running = await job(await certifyAll(token, ["us-east-1"]));
  while (running.progress < 100) running = await job(running.id);
  for (const run of running.certifications) {
    const why: string = run.passed ? "" : run.errorMessage ?? run.fix?.text ?? "";
    console.log(run.model.name, run.region, run.verdict, run.score?.toFixed(0), why);
  }
  await api.DELETE("/api/certification-queue/jobs/{job_id}", { params: { path: { job_id: running.id } } });
}
