"""The doctor: reads what a run logged, looks at its network, says in a sentence what is wrong and what to change.

metrics.jsonl, checkup.json, evaluation.json -> Course -> rules -> Diagnosis(verdict, findings)
"""
