# ruff: noqa
# mypy: ignore-errors
"""Metrics of what is foreign to the demo's surfaces, and of what is near their normal look."""
import csv, sys, numpy as np
from subspect.evaluation.results import *
import subspect.evaluation.histograms as H
def load(folder):
    z=np.load(folder+"/pixels.npz"); return z
for root in sys.argv[1:]:
    for surf,foreign,near in (("fabric",("hole","stain"),("doubled_thread","missing","warp")),("flange",("hole","scratch","stain"),("displaced","missing"))):
        f=f"{root}/{surf}/evaluation"; z=np.load(f+"/pixels.npz"); rows=list(csv.DictReader(open(f+"/images.csv")))
        keys=list(z.keys())
        pre="" 
        names=[k for k in keys]
        get=lambda n: z[[k for k in keys if k.endswith(n)][0]]
        hist=H.PixelHistograms(get("rows"),get("edges"),get("normal"),get("defective"),get("regions"))
        from sklearn.metrics import roc_auc_score
        for label,kinds in (("foreign",foreign),("near",near),("all",foreign+near)):
            keep=np.array([rows[r]["defect"] in ("good",*kinds) for r in hist.rows],float)
            m=H.pixel_metrics_of(hist,keep[None])[0]
            sel=[r for r in rows if r["defect"] in ("good",*kinds)]
            au=roc_auc_score([r["defect"]!="good" for r in sel],[float(r["score"]) for r in sel])
            print(surf,label,len([r for r in sel if r["defect"]!="good"]),f"AUROC {au*100:.1f}",np.round(m*100,1))
