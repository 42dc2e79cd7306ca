# ruff: noqa
# mypy: ignore-errors
"""Pixel metrics of runs judged when empty masks counted as free of defects, from their pixels.npz without those images; rewrites the tables of docs/results.md."""
import csv, glob, re, numpy as np
from pathlib import Path
import subspect.evaluation.histograms as H
def of(folder):
    folder=glob.glob(folder+'/**/pixels.npz',recursive=True)[0].rsplit('/',1)[0]
    z=np.load(folder+'/pixels.npz'); keys=list(z.keys()); get=lambda n: z[[k for k in keys if k.endswith(n)][0]]
    rows=list(csv.DictReader(open(folder+'/images.csv')))
    h=H.PixelHistograms(get("rows"),get("edges"),get("normal"),get("defective"),get("regions"))
    empty=np.array([rows[r]["defect"]!="good" and np.asarray(h.defective)[i].sum()==0 for i,r in enumerate(h.rows)])
    out={}
    for k in ("all","uneven"):
        sel=np.array([rows[r]["defect"]=="good" or k=="all" or rows[r]["defect"]==k for r in h.rows],float)*~empty
        out[k]=H.pixel_metrics_of(h,sel[None])[0][1:]*100
    return out
two={m:of(f'runs/two_hours/{d}') for m,d in (('US','us'),('DRAEM','draem'),('RIAD','riad'))}
small={m:[of(f'runs/small/{d}_{s}') for s in (0,1)] for m,d in (('US','us'),('DRAEM','draem'),('RIAD','riad'))}
pad=[of(f'runs/padim_{s}') for s in (0,1)]
p=Path('docs/results.md'); lines=p.read_text().split('\n')
def cell(v): return f"{v[0]:.1f} / {v[1]:.1f}"
cols=('US','DRAEM','RIAD')
def first(c): return float(re.search(r'[\d.]+',c).group())
def rebold(cells):
    parts=[[x.strip().replace('**','') for x in c.split(' / ')] for c in cells]
    for i in range(len(parts[0])):
        best=max(first(q[i]) for q in parts)
        for q in parts:
            if first(q[i])==best: q[i]=f"**{q[i]}**"
    return [' / '.join(q) for q in parts]
i=next(k for k,l in enumerate(lines) if l.startswith('Pixel AP / AUPRO, means'))
j=next(k for k,l in enumerate(lines) if '| steps | 2,100 | 10,600' in l)
for k in range(i,i+12):
    for kind in ('all','uneven'):
        if lines[k].startswith(f'| {kind} ('):
            c=[x.strip() for x in lines[k].split('|')[1:-1]]
            for n,m in enumerate(cols): c[2+n]=cell(np.mean([s[kind] for s in small[m]],0))
            c[5]=cell(np.mean([s[kind] for s in pad],0))
            print(lines[k]); lines[k]='| '+c[0]+' | '+' | '.join(rebold(c[1:]))+' |'; print(lines[k])
for k in range(j,j+10):
    for kind in ('all','uneven'):
        if lines[k].startswith((f'| **{kind} (',f'| {kind} (')):
            c=[x.strip() for x in lines[k].split('|')[1:-1]]
            for n,m in enumerate(cols):
                a=c[2+n].replace('**','').split(' / ')[0]; c[2+n]=a+' / '+cell(two[m][kind])
            print(lines[k]); lines[k]='| '+c[0]+' | '+' | '.join(rebold(c[1:]))+' |'; print(lines[k])
    if lines[k].startswith('| with the smaller budget above'):
        c=[x.strip() for x in lines[k].split('|')[1:-1]]
        for n,m in enumerate(cols): c[2+n]=c[2+n].split(' / ')[0]+' / '+cell(small[m][0]['all'])
        print(lines[k]); lines[k]='| '+' | '.join(c)+' |'; print(lines[k])
p.write_text('\n'.join(lines))
